"""The mask head."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def add_keys(cfg: CfgNode) -> None:
    """Declare what `CosineMaskHead` reads."""
    # MODEL.ROI_MASK_HEAD.NAME CosineMaskHead: what its cosines are multiplied with.
    cfg.MODEL.ROI_MASK_HEAD.COSINE_SCALE = 20.0


def problems(cfg: CfgNode, *, of_images: bool) -> list[str]:
    """Values of the mask head's keys that mean nothing."""
    scale = cfg.MODEL.ROI_MASK_HEAD.COSINE_SCALE
    if scale > 0:
        return []
    return [f"MODEL.ROI_MASK_HEAD.COSINE_SCALE is {scale}; expected a number above 0."]
