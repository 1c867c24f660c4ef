"""Which values of the MODEL.IMAGE_CLASSIFIER keys mean nothing, or contradict other keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.config.methods import IMAGE_COSINE_SCALE, classifier_problems
from balms_seg.job import classifies_images

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def image_problems(cfg: CfgNode) -> list[str]:
    """One line for each key to change; none for a detector."""
    from balms_seg.methods import METHODS

    if not classifies_images(cfg):
        return []
    where, node = "MODEL.IMAGE_CLASSIFIER", cfg.MODEL.IMAGE_CLASSIFIER
    problems = classifier_problems(
        node, where, node.METHOD, kind_key="CLASSIFIER", default_scale=IMAGE_COSINE_SCALE
    )
    if node.METHOD not in METHODS:
        problems.append(f"{where}.METHOD is {node.METHOD!r}; expected one of {', '.join(METHODS)}.")
    return problems
