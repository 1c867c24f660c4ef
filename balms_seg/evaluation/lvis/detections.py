"""Turns detections in the LVIS results format into arrays of those that count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from balms_seg.evaluation.lvis.ground_truth import GroundTruth
from balms_seg.evaluation.lvis.masks import mask_areas, segmentation_to_rle
from balms_seg.evaluation.predictions.detection_checks import (
    CHUNK,
    check_mask_sizes,
    finite_scores,
    look_up,
    reject,
)


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
    images = look_up(detections, "image_id", image_ids, ground_truth.image_ids)
    classes = look_up(detections, "category_id", category_ids, ground_truth.category_ids)
    scores = finite_scores(detections, score_values)

    kept = np.arange(len(scores))
    if max_detections is not None:
        kept = top_of_each(images, scores, max_detections)
    if max_per_class is not None:
        kept = kept[top_of_each(classes[kept], scores[kept], max_per_class)]
    kept = kept[ground_truth.is_verified[images[kept], classes[kept]]]
    if iou_type == "bbox":
        shapes: Any = _box_array([all_shapes[i] for i in kept.tolist()])
        not_finite = kept[~np.isfinite(shapes).all(axis=1)]
        reject(detections, np.isin(np.arange(len(detections)), not_finite), "Expected finite boxes")
        areas, places = shapes[:, 2] * shapes[:, 3], np.arange(len(kept))
    else:
        sizes = ground_truth.image_sizes
        is_compressed = check_mask_sizes(detections, all_shapes, images, sizes)
        shapes = all_shapes if is_compressed else _compressed(all_shapes, images, sizes, kept)
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
        for start in range(0, len(detections), CHUNK):
            rows = map(itemgetter(*keys), detections[start : start + CHUNK])
            for column, values in zip(columns, zip(*rows, strict=True), strict=True):
                column.extend(values)
    except KeyError as error:
        key = error.args[0]
        is_missing = [key not in detection for detection in detections]
        reject(detections, is_missing, f"Expected '{key}' in every detection")
        raise
    return columns


def _box_array(boxes: list[Any]) -> np.ndarray:
    """Boxes as (n, 4) float64."""
    if any(length != 4 for length in set(map(len, boxes))):
        raise ValueError("Expected boxes of four numbers: x, y, width, height in pixels.")
    flat = chain.from_iterable(boxes)
    return np.fromiter(flat, np.float64, 4 * len(boxes)).reshape(-1, 4)


def _compressed(
    masks: list[Any],
    images: np.ndarray,
    sizes: Sequence[tuple[int, int] | None],
    kept: np.ndarray,
) -> list[Any]:
    """The masks, those to be kept as compressed RLE."""
    masks = list(masks)
    for i in kept.tolist():
        masks[i] = segmentation_to_rle(masks[i], sizes[images[i]])
    return masks


def top_of_each(groups: np.ndarray, scores: np.ndarray, limit: int) -> np.ndarray:
    """Indices of the `limit` highest scores of each group, in ascending order."""
    if np.bincount(groups).max(initial=0) <= limit:
        return np.arange(len(groups))
    order = np.lexsort((-scores, groups))
    starts = np.searchsorted(groups[order], groups[order], side="left")
    return np.sort(order[np.arange(len(order)) - starts < limit])
