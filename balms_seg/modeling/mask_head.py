"""A mask head whose masks are predicted by cosines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.modeling.roi_heads.mask_head import (
    ROI_MASK_HEAD_REGISTRY,
    MaskRCNNConvUpsampleHead,
)
from torch import Tensor, nn

from balms_seg.declared_keys import require_our_keys

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from detectron2.layers import ShapeSpec


class CosineConv(nn.Conv2d):
    """A 1 x 1 convolution of normalised weights and pixels, times a scale, plus a bias."""

    def __init__(self, in_channels: int, out_channels: int, *, scale: float) -> None:
        """Initialised as the mask heads of detectron2 are."""
        super().__init__(in_channels, out_channels, kernel_size=1)
        self.scale = scale
        nn.init.normal_(self.weight, std=0.001)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]  # there is one

    def forward(self, x: Tensor) -> Tensor:
        """(R, D, H, W) to (R, C, H, W), in float32 also under autocast."""
        with torch.autocast(x.device.type, enabled=False):
            weight = F.normalize(self.weight.float(), dim=1)
            return F.conv2d(self.scale * F.normalize(x.float(), dim=1), weight, self.bias)


@ROI_MASK_HEAD_REGISTRY.register()
class CosineMaskHead(MaskRCNNConvUpsampleHead):
    """detectron2's mask head with a normalised predictor, for any method of the box classifier.

    A class with few objects then has masks of the same confidence as the others'.

    Source: Wang et al. 2021 (arXiv 2008.10032), with a scale of 20.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, cosine_scale: float, **kwargs: Any) -> None:
        """Build detectron2's head and put the other predictor into its place.

        Args:
            input_shape: of the mask features.
            cosine_scale: what cosines are multiplied with.
            kwargs: those of detectron2's `MaskRCNNConvUpsampleHead`.
        """
        super().__init__(input_shape, **kwargs)
        linear: Any = self.get_submodule("predictor")
        self.predictor = CosineConv(linear.in_channels, linear.out_channels, scale=cosine_scale)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Keyword arguments of `__init__` from a configuration."""
        require_our_keys(cfg)
        return {
            **super().from_config(cfg, input_shape),
            "cosine_scale": cfg.MODEL.ROI_MASK_HEAD.COSINE_SCALE,
        }
