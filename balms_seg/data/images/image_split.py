"""Holding out a part of an image set, class by class."""

from __future__ import annotations

import numpy as np

from balms_seg.data.images.image_records import ImageRecords
from balms_seg.data.images.long_tailed_subsets import draw_subset


def split_images(
    whole: ImageRecords, held_out: float, *, seed: int = 0
) -> tuple[ImageRecords, ImageRecords]:
    """Split a set so that every class that can be is on both sides.

    A class with n images gives round(held_out * n) of them, but at least one where it has two or
    more, and never its last. Which ones depends on the seed and their names alone.

    Args:
        whole: the set.
        held_out: share of each class's images, between 0 and 1.
        seed: of the draw.

    Returns:
        The part to train on and the part held out, in the order of the whole set.

    Raises:
        ValueError: the share is out of range, or nothing could be held out.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"Expected a share between 0 and 1 to hold out, but got {held_out:g}.")
    labels = np.array([record["label"] for record in whole.records], np.int64)
    counts = np.bincount(labels, minlength=len(whole.class_names))
    taken = np.clip(np.rint(held_out * counts).astype(np.int64), 1, np.maximum(counts - 1, 0))
    taken = np.minimum(taken, np.maximum(counts - 1, 0))
    if not taken.any():
        raise ValueError("No class has two images, so none can be held out.")
    keys = [record["key"] for record in whole.records]
    stays = np.zeros(len(labels), bool)
    stays[draw_subset(labels, counts - taken, seed, keys=keys)] = True
    parts = [
        [record for record, own in zip(whole.records, mask, strict=True) if own]
        for mask in (stays, ~stays)
    ]
    train, held = (whole._replace(records=part, notes=()) for part in parts)
    return train, held
