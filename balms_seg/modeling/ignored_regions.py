"""Regions that are no objects (`ignore` in the annotations): nothing on them is learned from.

A proposal or an anchor on one is neither foreground nor background.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.structures import Boxes, Instances
from detectron2.structures.boxes import pairwise_intersection
from torch import Tensor

from balms_seg.training_objects import TrainingObjects

#: Share of a proposal's or an anchor's area that makes it lie on a region.
COVERED_SHARE = 0.5


def lies_on_ignored(boxes: Boxes, target: Instances) -> Tensor | None:
    """(N,) bool, which boxes lie on a region of an image; None if it has none.

    Args:
        boxes: N proposals or anchors of the image.
        target: its objects, perhaps with regions.
    """
    regions = target.ignored_boxes if isinstance(target, TrainingObjects) else None
    if regions is None:
        return None
    shared = pairwise_intersection(boxes, regions.to(boxes.device))
    # Of several regions, the one that covers most.
    return shared.amax(dim=1) >= COVERED_SHARE * boxes.area().clamp(min=torch.finfo().tiny)


def without_ignored(
    proposals: Sequence[Instances], targets: Sequence[Instances]
) -> list[Instances]:
    """The proposals of a batch that lie on no region of their image."""
    kept = []
    for own, target in zip(proposals, targets, strict=True):
        is_on_region = lies_on_ignored(own.proposal_boxes, target)
        kept.append(own if is_on_region is None else own[~is_on_region])
    return kept
