"""Checks of detections against the ground truth that they are evaluated on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any

import numpy as np

from balms_seg.evaluation.lvis.masks import segmentation_to_rle

CHUNK = 2048  # detections that fit into the processor's cache
_NUM_NAMED = 5


def look_up(
    detections: Sequence[Mapping[str, Any]],
    key: str,
    ids: Sequence[Any],
    known: Sequence[Any],
    *,
    start: int = 0,
) -> np.ndarray:
    """Place of each id among the known ones, (n,) int64.

    Args:
        detections: n of them, for errors.
        key: "image_id" or "category_id".
        ids: what each detection has there.
        known: ids of the ground truth.
        start: position of the first in its file, for errors.

    Raises:
        ValueError: an id is unknown.
    """
    index = {id_: place for place, id_ in enumerate(known)}
    found = np.fromiter(map(index.get, ids, repeat(-1)), np.int64, len(ids))
    if len(found) and (found < 0).all():
        raise ValueError(
            f"Expected detections on the images and categories of the ground truth, but none of "
            f"the {len(found)} detections has a known {key}: the first has "
            f"{ids[0]!r}, the ground truth {list(known)[:_NUM_NAMED]} and so on. These "
            "are results of another data set."
        )
    expectation = f"Expected every {key} to be one of the ground truth's"
    reject(detections, found < 0, expectation, key, start=start)
    return found


def finite_scores(
    detections: Sequence[Mapping[str, Any]], scores: Sequence[float], *, start: int = 0
) -> np.ndarray:
    """The scores as (n,) float64; ValueError where one is not finite."""
    values = np.array(scores, dtype=np.float64)
    reject(detections, ~np.isfinite(values), "Expected finite scores", start=start)
    return values


def check_mask_sizes(
    detections: Sequence[Mapping[str, Any]],
    masks: list[Any],
    images: np.ndarray,
    sizes: Sequence[tuple[int, int] | None],
) -> bool:
    """Check that every RLE has its image's size.

    Args:
        detections: n of them, for errors.
        masks: of each.
        images: (n,) image index of each.
        sizes: (height, width) per image, in pixels.

    Returns:
        Whether all masks are compressed RLE already.

    Raises:
        ValueError: the size of an image is unknown, or a mask has another.
    """
    expected = [None if size is None else list(size) for size in sizes]
    is_ready = True
    for start in range(0, len(masks), CHUNK):
        part = masks[start : start + CHUNK]
        own = images[start : start + CHUNK].tolist()
        if set(map(type, part)) == {dict}:
            is_ready &= list not in set(map(type, map(itemgetter("counts"), part)))
            if list(map(itemgetter("size"), part)) == [expected[image] for image in own]:
                continue
        else:
            is_ready = False
        for i, (mask, image) in enumerate(zip(part, own, strict=True), start):
            size = sizes[image]
            if size is None or (isinstance(mask, dict) and tuple(mask["size"]) != size):
                _raise_for_size(detections[i], mask, size)
    return is_ready


def _raise_for_size(detection: Mapping[str, Any], mask: Any, size: tuple[int, int] | None) -> None:
    try:
        segmentation_to_rle(mask, size)
    except ValueError as error:
        raise ValueError(f"Detection in image {detection['image_id']}: {error}") from error


def reject(
    detections: Sequence[Mapping[str, Any]],
    is_bad: Sequence[bool] | np.ndarray,
    expectation: str,
    key: str | None = None,
    *,
    start: int = 0,
) -> None:
    """Raise ValueError that names the bad ones, if there are any.

    Args:
        detections: n of them.
        is_bad: (n,) bool.
        expectation: what should have been.
        key: what to say of each; None says image, category and score.
        start: position of the first in its file.
    """
    bad = np.flatnonzero(is_bad)
    if len(bad) == 0:
        return
    keys = ("image_id", "category_id", "score") if key is None else (key,)
    named = "; ".join(
        f"#{start + i} " + ", ".join(f"{k} {detections[i].get(k)}" for k in keys)
        for i in bad[:_NUM_NAMED]
    )
    behind = f" from position {start}" if start else ""
    raise ValueError(
        f"{expectation}, but {len(bad)} of {len(detections)} detections{behind} break this: {named}"
        f"{'; ...' if len(bad) > _NUM_NAMED else ''}. Check the data set and the model's output."
    )
