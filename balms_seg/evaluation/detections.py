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


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections that count, sorted by class, then descending score, then image.

    Attributes:
        images: (n,) int64 image index.
        classes: (n,) int64 class index.
        scores: (n,) float64.
        areas: (n,) float64 in square pixels, of the box or of the mask.
        shapes: (n, 4) float64 boxes x, y, width, height; or a list of n compressed RLEs.
    """

    images: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    shapes: np.ndarray | list[dict[str, Any]]


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
    try:
        all_shapes = list(map(itemgetter(key), detections))
    except KeyError:
        _reject(
            detections,
            [key not in d for d in detections],
            f"Expected '{key}' in every detection to compute {iou_type} AP",
        )
    image_index = {image_id: index for index, image_id in enumerate(ground_truth.image_ids)}
    class_index = {id_: index for index, id_ in enumerate(ground_truth.category_ids)}
    images = _lookup(detections, "image_id", image_index)
    classes = _lookup(detections, "category_id", class_index)
    scores = np.fromiter(map(itemgetter("score"), detections), np.float64, len(detections))
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
        areas = shapes[:, 2] * shapes[:, 3]
    else:
        sizes = ground_truth.image_sizes
        _reject_other_sizes(detections, all_shapes, images, sizes)
        shapes = _compressed([all_shapes[i] for i in kept.tolist()], images[kept], sizes)
        areas = mask_areas(shapes)

    # Positions break ties last: detections of one image keep the order in which they came.
    order = np.lexsort((kept, images[kept], -scores[kept], classes[kept]))
    order = order[areas[order] > 0]
    kept = kept[order]
    return Detections(
        images=images[kept],
        classes=classes[kept],
        scores=scores[kept],
        areas=areas[order],
        shapes=shapes[order] if iou_type == "bbox" else [shapes[i] for i in order],
    )


def _lookup(
    detections: Sequence[Mapping[str, Any]], key: str, index: Mapping[Any, int]
) -> np.ndarray:
    ids = map(itemgetter(key), detections)
    found = np.fromiter(map(index.get, ids, repeat(-1)), np.int64, len(detections))
    if len(found) and (found < 0).all():
        raise ValueError(
            f"Expected detections on the images and categories of the ground truth, but none of "
            f"the {len(found)} detections has a known {key}: the first has "
            f"{detections[0][key]!r}, the ground truth {list(index)[:_NUM_NAMED]} and so on. These "
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


def _reject_other_sizes(
    detections: Sequence[Mapping[str, Any]],
    masks: list[Any],
    images: np.ndarray,
    sizes: Sequence[tuple[int, int] | None],
) -> None:
    """Check the size of every RLE, also of those that will not count."""
    if None not in sizes and set(map(type, masks)) <= {dict}:
        numbers = chain.from_iterable(map(itemgetter("size"), masks))
        found = np.fromiter(numbers, np.int64, 2 * len(masks)).reshape(-1, 2)
        expected = np.array(sizes, dtype=np.int64).reshape(-1, 2)[images]
        suspects = np.flatnonzero((found != expected).any(axis=1)).tolist()
    else:
        suspects = range(len(masks))
    for i in suspects:
        mask, size = masks[i], sizes[images[i]]
        if size is None or (isinstance(mask, dict) and tuple(mask["size"]) != size):
            try:
                segmentation_to_rle(mask, size)
            except ValueError as error:
                raise ValueError(
                    f"Detection in image {detections[i]['image_id']}: {error}"
                ) from error


def _compressed(
    masks: list[Any], images: np.ndarray, sizes: Sequence[tuple[int, int] | None]
) -> list[dict[str, Any]]:
    """Masks whose sizes have been checked, all as compressed RLE."""
    if set(map(type, masks)) <= {dict} and list not in set(
        map(type, map(itemgetter("counts"), masks))
    ):
        return masks
    return [
        segmentation_to_rle(mask, sizes[image])
        for mask, image in zip(masks, images.tolist(), strict=True)
    ]


def _top_of_each(groups: np.ndarray, scores: np.ndarray, limit: int) -> np.ndarray:
    """Indices of the `limit` highest scores of each group, in ascending order."""
    if np.bincount(groups).max(initial=0) <= limit:
        return np.arange(len(groups))
    order = np.lexsort((-scores, groups))
    starts = np.searchsorted(groups[order], groups[order], side="left")
    return np.sort(order[np.arange(len(order)) - starts < limit])
