"""Partial labels: background says nothing of classes that nobody looked for in its image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.structures import Instances
from torch import Tensor

from balms_seg.training_objects import TrainingObjects


def with_known_classes(
    proposals: list[Instances], targets: Sequence[Instances], num_classes: int
) -> list[Instances]:
    """Sampled proposals of a batch; where labels are partial with `known_classes`, (R, K) bool.

    An object is of its class and of no other: only rows of background are restricted.

    Args:
        proposals: of each image, with `gt_classes`; changed in place.
        targets: objects of each image, perhaps with known classes.
        num_classes: K.
    """
    known = [each.known_classes if isinstance(each, TrainingObjects) else None for each in targets]
    if all(each is None for each in known):
        return proposals
    for own, of_image in zip(proposals, known, strict=True):
        is_object = (own.gt_classes < num_classes)[:, None]
        if of_image is None:
            of_image = torch.ones(num_classes, dtype=torch.bool)
        own.known_classes = is_object | of_image.to(is_object.device)
    return proposals


def columns_of(proposals: Sequence[Instances]) -> Tensor | None:
    """`known_classes` of all images of a batch, (R, K); None where all is known."""
    known = [each.known_classes for each in proposals if each.has("known_classes")]
    return torch.cat(known) if known else None
