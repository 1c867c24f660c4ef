"""Holding out a part of an annotation file by images, so that rare classes are on both sides.

Symbols: I images, K classes, n_c images that show class c, h the share to hold out.

Source: the order of choice, rarest class first, is that of iterative stratification (Sechidis et
al. 2011, On the Stratification of Multi-label Data); the bounds are ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from balms_seg.annotations import Annotations
from balms_seg.annotations.fields import canonical_id


def draw_held_out(annotations: Annotations, share: float, *, seed: int = 0) -> np.ndarray:
    """Which images to hold out, (I,) bool.

    A class in n_c images gets round(h n_c) of them held out, at least one where n_c >= 2, as far as
    its images allow: no image goes that is the last of one of its classes on the training side.
    A class that gets none because rarer ones had settled its images takes one of these, even
    where a rarer class then has more than its share held out.
    Images without a class follow the share.

    Args:
        annotations: of the set.
        share: h.
        seed: of the draw.

    Raises:
        ValueError: the share is out of range, or no image could be held out.
    """
    if not 0 < share < 1:
        raise ValueError(f"Expected a share between 0 and 1 to hold out, but got {share:g}.")
    num_images, num_classes = len(annotations.image_table), annotations.num_classes
    shows = np.zeros((num_images, num_classes), bool)
    shows[annotations.images, annotations.classes] = True
    counts = shows.sum(axis=0)
    targets = np.where(counts >= 2, np.maximum(1, np.rint(share * counts)), 0)
    targets = np.minimum(targets, counts - 1)
    order = np.random.default_rng(seed).permutation(num_images)

    is_held = np.zeros(num_images, bool)
    is_open = np.ones(num_images, bool)
    staying, held = counts.copy(), np.zeros(num_classes, np.int64)
    for c in np.argsort(counts, kind="stable"):
        for image in order[shows[order, c] & is_open[order]]:
            own = shows[image]
            if held[c] < targets[c] and (staying[own] > 1).all():
                is_held[image] = True
                held[own] += 1
                staying[own] -= 1
        # What a rare class leaves stays, or more frequent classes would take more of it.
        is_open &= ~shows[:, c]
    for c in np.argsort(counts, kind="stable"):
        if targets[c] > held[c] == 0:
            images = order[shows[order, c]]
            left = [staying[shows[image]].min() for image in images]
            if max(left) > 1:
                image = images[np.argmax(left)]
                is_held[image] = True
                held[shows[image]] += 1
                staying[shows[image]] -= 1
    without = order[~shows[order].any(axis=1)]
    is_held[without[: round(share * len(without))]] = True
    if not is_held.any():
        raise ValueError(
            "Every image is the only one of some class, so none can be held out; label more images."
        )
    return is_held


def part_of(content: dict[str, Any], annotations: Annotations, is_kept: np.ndarray) -> dict:
    """The json's content with some of its images and their annotations alone.

    Counts that categories carry are left out: they were those of the whole.

    Args:
        content: of the json.
        annotations: what was read from it.
        is_kept: (I,) bool.
    """
    # The table of images is in the order of their ids, not in the json's.
    kept = {annotations.image_table.ids[place] for place in np.flatnonzero(is_kept).tolist()}
    counts = ("image_count", "instance_count")
    return {
        **content,
        "images": [image for image in content["images"] if canonical_id(image["id"]) in kept],
        "annotations": [
            entry for entry in content["annotations"] if canonical_id(entry["image_id"]) in kept
        ],
        "categories": [
            {key: value for key, value in category.items() if key not in counts}
            for category in content["categories"]
        ],
    }
