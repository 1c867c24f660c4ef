"""Instances of rare classes pasted into training images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.config.values import below

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def add_keys(cfg: CfgNode) -> None:
    """Declare the INPUT.COPY_PASTE keys."""
    from detectron2.config import CfgNode

    copy_paste = cfg.INPUT.COPY_PASTE = CfgNode()
    # Share of the training images that get instances of rare classes from other images. 0: off.
    copy_paste.PROBABILITY = 0.0
    # Most instances that one image gets; their number is drawn from 1 on.
    copy_paste.MAX_INSTANCES = 3


def problems(cfg: CfgNode, *, of_images: bool) -> list[str]:
    """Values that mean nothing, and models without the masks that this needs."""
    options, where = cfg.INPUT.COPY_PASTE, "INPUT.COPY_PASTE"
    found = below(options, where, {"MAX_INSTANCES": 1})
    if not 0 <= options.PROBABILITY <= 1:
        found.append(f"{where}.PROBABILITY is {options.PROBABILITY:g}; expected 0 to 1.")
    if options.PROBABILITY <= 0:
        return found
    if of_images:
        found.append(f"{where}.PROBABILITY is above 0, but an image classifier has no instances.")
    elif not cfg.MODEL.MASK_ON or cfg.INPUT.MASK_FORMAT != "bitmask" or cfg.MODEL.KEYPOINT_ON:
        found.append(
            f"{where}.PROBABILITY is above 0, which needs masks that can be cut out and covered: "
            f"MODEL.MASK_ON is {cfg.MODEL.MASK_ON} (expected True), INPUT.MASK_FORMAT is "
            f"{cfg.INPUT.MASK_FORMAT} (expected bitmask), MODEL.KEYPOINT_ON is "
            f"{cfg.MODEL.KEYPOINT_ON} (expected False)."
        )
    return found
