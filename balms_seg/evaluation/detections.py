"""Checks detections in the LVIS results format and turns them into arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import itemgetter
from typing import Any

import numpy as np

from .ground_truth import GroundTruth
from .masks import mask_areas, segmentation_to_rle

_NUM_NAMED = 5
_CHUNK = 2048  # what fits into the processor's cache


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections that count, sorted by class, then descending score, then image.

    Attributes:
        images: (n,) int64 image index.
        classes: (n,) int64 class index.
        scores: (n,) float64.
        areas: (n,) float64 in square pixels, of the box or of the mask.
        places: (n,) int64 where `shapes` has the shape of each; millions of masks are not moved.
        shapes: (N, 4) float64 boxes x, y, width, height; or a list of N compressed RLEs.
    """

    images: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    places: np.ndarray
    shapes: np.ndarray | list[dict[str, Any]]

    def take(self, rows: np.ndarray) -> Detections:
        """The chosen detections, in the order of `rows`."""
        return Detections(
            images=self.images[rows],
            classes=self.classes[rows],
            scores=self.scores[rows],
            areas=self.areas[rows],
            places=self.places[rows],
            shapes=self.shapes,
        )


def select_detections(
    detections: Sequence[Mapping[str, Any]],
    ground_truth: GroundTruth,
    iou_type: str,
    *,
    max_detections: int | None,
    max_per_class: int | None = None,
) -> Detections:
    """Check detections and keep those that LVIS counts.

    Of each image the `max_detections` of highest score are kept, of each class over all images the
    `max_per_class`, the earlier ones where scores tie; None keeps all. Of these, detections of a
    class that is neither annotated nor a verified negative in the image are dropped, and so are
    those without area, as lvis-api does.

    Raises:
        ValueError: an unknown image or category, a score or box that is not finite, a missing box
            or mask, or a mask of another size than its image.
    """
    key = "bbox" if iou_type == "bbox" else "segmentation"  # also for boundaries
    image_ids, category_ids, score_values, all_shapes = _columns(
        detections, ("image_id", "category_id", "score", key)
    )
    images = _lookup(detections, "image_id", image_ids, ground_truth.image_ids)
    classes = _lookup(detections, "category_id", category_ids, ground_truth.category_ids)
    scores = np.array(score_values, dtype=np.float64)
    _reject(detections, ~np.isfinite(scores), "Expected finite scores")

    kept = np.arange(len(scores))
    if max_detections is not None:
        kept = _top_of_each(images, scores, max_detections)
    if max_per_class is not None:
        kept = kept[_top_of_each(classes[kept], scores[kept], max_per_class)]
    kept = kept[ground_truth.is_verified[images[kept], classes[kept]]]
    if iou_type == "bbox":
        shapes: Any = _box_array([all_shapes[i] for i in kept.tolist()])
        not_finite = kept[~np.isfinite(shapes).all(axis=1)]
        _reject(
            detections, np.isin(np.arange(len(detections)), not_finite), "Expected finite boxes"
        )
        areas, places = shapes[:, 2] * shapes[:, 3], np.arange(len(kept))
    else:
        shapes = _compressed(detections, all_shapes, images, ground_truth.image_sizes, kept)
        areas, places = mask_areas([shapes[i] for i in kept.tolist()]), kept

    kept, areas, places = (values[areas > 0] for values in (kept, areas, places))
    # The sort is stable: tied detections of one image keep the order in which they came.
    keys = (-scores[kept], classes[kept])
    is_ordered = (np.diff(images[kept]) >= 0).all()
    order = np.lexsort(keys if is_ordered else (images[kept], *keys))
    kept = kept[order]
    return Detections(
        images=images[kept],
        classes=classes[kept],
        scores=scores[kept],
        areas=areas[order],
        places=places[order],
        shapes=shapes,
    )


def _columns(detections: Sequence[Mapping[str, Any]], keys: tuple[str, ...]) -> list[list[Any]]:
    """The values of each key, gathered in one pass: visiting millions of dicts takes long."""
    columns: list[list[Any]] = [[] for _ in keys]
    try:
        for start in range(0, len(detections), _CHUNK):
            rows = map(itemgetter(*keys), detections[start : start + _CHUNK])
            for column, values in zip(columns, zip(*rows, strict=True), strict=True):
                column.extend(values)
    except KeyError as error:
        key = error.args[0]
        is_missing = [key not in detection for detection in detections]
        _reject(detections, is_missing, f"Expected '{key}' in every detection")
        raise
    return columns


def _lookup(
    detections: Sequence[Mapping[str, Any]], key: str, ids: list[Any], known: Sequence[Any]
) -> np.ndarray:
    """Place of each id among the known ones."""
    index = {id_: place for place, id_ in enumerate(known)}
    found = np.fromiter(map(index.get, ids, repeat(-1)), np.int64, len(ids))
    if len(found) and (found < 0).all():
        raise ValueError(
            f"Expected detections on the images and categories of the ground truth, but none of "
            f"the {len(found)} detections has a known {key}: the first has "
            f"{ids[0]!r}, the ground truth {list(known)[:_NUM_NAMED]} and so on. These "
            "are results of another data set."
        )
    _reject(detections, found < 0, f"Expected every {key} to be one of the ground truth's", key)
    return found


def _reject(
    detections: Sequence[Mapping[str, Any]],
    is_bad: Sequence[bool] | np.ndarray,
    expectation: str,
    key: str | None = None,
) -> None:
    bad = np.flatnonzero(is_bad)
    if len(bad) == 0:
        return
    keys = ("image_id", "category_id", "score") if key is None else (key,)
    named = "; ".join(
        f"#{i} " + ", ".join(f"{k} {detections[i].get(k)}" for k in keys) for i in bad[:_NUM_NAMED]
    )
    raise ValueError(
        f"{expectation}, but {len(bad)} of {len(detections)} detections break this: {named}"
        f"{'; ...' if len(bad) > _NUM_NAMED else ''}. Check the data set and the model's output."
    )


def _box_array(boxes: list[Any]) -> np.ndarray:
    """Boxes as (n, 4) float64."""
    if any(length != 4 for length in set(map(len, boxes))):
        raise ValueError("Expected boxes of four numbers: x, y, width, height in pixels.")
    flat = chain.from_iterable(boxes)
    return np.fromiter(flat, np.float64, 4 * len(boxes)).reshape(-1, 4)


def _compressed(
    detections: Sequence[Mapping[str, Any]],
    masks: list[Any],
    images: np.ndarray,
    sizes: Sequence[tuple[int, int] | None],
    kept: np.ndarray,
) -> list[Any]:
    """The masks, those to be kept as compressed RLE, after a check of every RLE's size."""
    expected = [None if size is None else list(size) for size in sizes]
    is_ready = True
    for start in range(0, len(masks), _CHUNK):
        part = masks[start : start + _CHUNK]
        own = images[start : start + _CHUNK].tolist()
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
    if is_ready:
        return masks
    masks = list(masks)
    for i in kept.tolist():
        masks[i] = segmentation_to_rle(masks[i], sizes[images[i]])
    return masks


def _raise_for_size(detection: Mapping[str, Any], mask: Any, size: tuple[int, int] | None) -> None:
    try:
        segmentation_to_rle(mask, size)
    except ValueError as error:
        raise ValueError(f"Detection in image {detection['image_id']}: {error}") from error


def _top_of_each(groups: np.ndarray, scores: np.ndarray, limit: int) -> np.ndarray:
    """Indices of the `limit` highest scores of each group, in ascending order."""
    if np.bincount(groups).max(initial=0) <= limit:
        return np.arange(len(groups))
    order = np.lexsort((-scores, groups))
    starts = np.searchsorted(groups[order], groups[order], side="left")
    return np.sort(order[np.arange(len(order)) - starts < limit])
