"""The backbone of a classifier that is given features in place of images."""

from __future__ import annotations

from typing import NoReturn

from torch import Tensor, nn


class GivenFeatures(nn.Module):
    """Nothing: the features were computed before, by `balms-seg features` or another program.

    Attributes:
        out_channels: D features of an image.
    """

    def __init__(self, num_features: int) -> None:
        """Remember D.

        Raises:
            ValueError: it is not known.
        """
        super().__init__()
        if num_features < 1:
            raise ValueError(
                f"MODEL.IMAGE_CLASSIFIER.NUM_FEATURES is {num_features}, and no set of features is "
                "at hand that says how many there are; set it to the number of columns."
            )
        self.out_channels = num_features

    def forward(self, images: Tensor) -> NoReturn:
        """Refuse images."""
        raise ValueError(
            f"MODEL.IMAGE_CLASSIFIER.BACKBONE is features, but images of shape "
            f"{tuple(images.shape)} came; name the backbone that the features are of, or compute "
            "theirs with balms-seg features."
        )
