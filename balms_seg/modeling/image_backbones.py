"""Backbones of the image classifier by name: (B, 3, H, W) images to (B, D) features."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from balms_seg.modeling.cifar_resnet import CifarResNet

# name -> (width, pretrained) -> module with the attribute out_channels
ImageBackbone = Callable[..., nn.Module]


def _cifar_resnet32(*, width: int, pretrained: bool) -> nn.Module:
    if pretrained:
        raise ValueError(
            "MODEL.IMAGE_CLASSIFIER.PRETRAINED is True, but there are no weights for "
            "cifar_resnet32; set it to False."
        )
    return CifarResNet(32, width=width)


IMAGE_BACKBONES: dict[str, ImageBackbone] = {"cifar_resnet32": _cifar_resnet32}


def build_image_backbone(name: str, *, width: int = 1, pretrained: bool = False) -> nn.Module:
    """A backbone whose attribute `out_channels` is D.

    Args:
        name: a key of `IMAGE_BACKBONES`.
        width: factor on the channels.
        pretrained: with ImageNet weights.
    """
    return IMAGE_BACKBONES[name](width=width, pretrained=pretrained)
