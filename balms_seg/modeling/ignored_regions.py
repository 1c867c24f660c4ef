"""Regions that are no objects (`ignore` in the annotations): nothing on them is learned from.

A proposal or an anchor on one is neither foreground nor background. The regions travel beside the
model, since detectron2's `Instances` holds objects only: the training step opens `ignored_regions`
around a forward pass; outside of it there are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from detectron2.structures.boxes import pairwise_intersection
from torch import Tensor

#: Share of a proposal's or an anchor's area that makes it lie on a region.
COVERED_SHARE = 0.5

_REGIONS: ContextVar[tuple[Boxes | None, ...] | None] = ContextVar(
    "balms_seg_ignored_regions", default=None
)


@contextmanager
def ignored_regions(batch: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Give a forward pass the regions of its batch.

    Args:
        batch: model inputs; "ignored_boxes", where there are any, are (R, 4) corners in px of the
            input image.
    """
    regions = [sample.get("ignored_boxes") for sample in batch]
    if all(boxes is None for boxes in regions):
        yield
        return
    token = _REGIONS.set(tuple(None if boxes is None else Boxes(boxes) for boxes in regions))
    try:
        yield
    finally:
        _REGIONS.reset(token)


def lies_on_ignored(boxes: Boxes, image: int) -> Tensor | None:
    """(N,) bool, which boxes lie on a region of an image of the batch; None if it has none."""
    regions = _REGIONS.get()
    own = None if regions is None else regions[image]
    if own is None:
        return None
    shared = pairwise_intersection(boxes, own.to(boxes.device))
    # Of several regions, the one that covers most.
    return shared.amax(dim=1) >= COVERED_SHARE * boxes.area().clamp(min=torch.finfo().tiny)


def without_ignored(proposals: list[Instances]) -> list[Instances]:
    """The proposals of a batch that lie on no region."""
    if _REGIONS.get() is None:
        return proposals
    kept = []
    for image, own in enumerate(proposals):
        is_on_region = lies_on_ignored(own.proposal_boxes, image)
        kept.append(own if is_on_region is None else own[~is_on_region])
    return kept
