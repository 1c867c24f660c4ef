"""Turns detections in the LVIS results format into arrays of those that count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from balms_seg.evaluation.lvis.detection_table import DetectionTable, MaskColumn
from balms_seg.evaluation.lvis.ground_truth import GroundTruth
from balms_seg.evaluation.lvis.masks import mask_areas
from balms_seg.evaluation.predictions.table_builder import TableBuilder

_CHUNK = 10_000  # detections that are checked at once


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections that count, sorted by class, then descending score, then image.

    Attributes:
        images: (n,) int64 image index.
        classes: (n,) int64 class index.
        scores: (n,) float64.
        areas: (n,) float64 in square pixels, of the box or of the mask.
        places: (n,) int64 where `shapes` has the shape of each; millions of masks are not moved.
        shapes: (N, 4) float64 boxes x, y, width, height; or N compressed RLEs.
    """

    images: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    places: np.ndarray
    shapes: np.ndarray | MaskColumn

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
    detections: Sequence[Mapping[str, Any]] | DetectionTable,
    ground_truth: GroundTruth,
    iou_type: str,
    *,
    max_detections: int | None,
    max_per_class: int | None = None,
) -> Detections:
    """Check detections and keep those that LVIS counts.

    Of each image the `max_detections` of highest score are kept, of each class over all images the
    `max_per_class`, the earlier ones where scores tie; None keeps all. Of these, detections of a
    class that is neither annotated nor a verified negative in the image are dropped. So are those
    without area where the file has LVIS's lists, as in lvis-api; elsewhere they are false, as in
    pycocotools.

    Raises:
        ValueError: an unknown image or category, a score or box that is not finite, a missing box
            or mask, or a mask of another size than its image.
    """
    table = as_table(detections, ground_truth, with_masks=iou_type != "bbox")
    has_shape = table.has_shape(iou_type)
    _require_shapes(has_shape, iou_type, is_file=isinstance(detections, DetectionTable))
    kept = np.flatnonzero(has_shape)
    if max_detections is not None:
        kept = kept[top_of_each(table.images[kept], table.scores[kept], max_detections)]
    if max_per_class is not None:
        kept = kept[top_of_each(table.classes[kept], table.scores[kept], max_per_class)]
    images, classes = table.images.astype(np.int64), table.classes.astype(np.int64)
    scores = table.scores
    kept = kept[ground_truth.is_verified[images[kept], classes[kept]]]
    shapes: Any = table.boxes if iou_type == "bbox" else table.masks
    if iou_type == "bbox":
        areas = table.boxes[kept, 2] * table.boxes[kept, 3]
    else:
        areas = mask_areas(table.masks.take(kept))
    if ground_truth.annotations.is_lvis_style:
        kept, areas = kept[areas > 0], areas[areas > 0]
    # The sort is stable: tied detections of one image keep the order in which they came.
    # Classes that fit into 16 bits are sorted by counting them.
    keys = (-scores[kept], classes[kept].astype(np.min_scalar_type(ground_truth.num_classes)))
    is_ordered = (np.diff(images[kept]) >= 0).all()
    order = np.lexsort(keys if is_ordered else (images[kept], *keys))
    kept = kept[order]
    return Detections(
        images=images[kept],
        classes=classes[kept],
        scores=scores[kept],
        areas=areas[order],
        places=kept,
        shapes=shapes,
    )


def as_table(
    detections: Sequence[Mapping[str, Any]] | DetectionTable,
    ground_truth: GroundTruth,
    *,
    with_masks: bool = True,
) -> DetectionTable:
    """Detections as a table; those that are dicts are checked."""
    if isinstance(detections, DetectionTable):
        return detections
    builder = TableBuilder(ground_truth, with_masks=with_masks)
    for start in range(0, len(detections), _CHUNK):
        builder.add(detections[start : start + _CHUNK])
    return builder.build()


def _require_shapes(has_shape: np.ndarray, iou_type: str, *, is_file: bool) -> None:
    """Detections without the shape of a task take no part in it, if they are from a file.

    Some programs write boxes and masks as detections of their own; whoever reads a file says so.
    """
    number = len(has_shape) - int(has_shape.sum())
    if number and (not is_file or number == len(has_shape)):
        key = "bbox" if iou_type == "bbox" else "segmentation"
        raise ValueError(
            f"Expected '{key}' in every detection, but {number} of {len(has_shape)} have none, the "
            f"first #{int(np.flatnonzero(~has_shape)[0])}; evaluate another task, or add it."
        )


def top_of_each(groups: np.ndarray, scores: np.ndarray, limit: int) -> np.ndarray:
    """Indices of the `limit` highest scores of each group, in ascending order."""
    if np.bincount(groups).max(initial=0) <= limit:
        return np.arange(len(groups))
    order = np.lexsort((-scores, groups))
    starts = np.searchsorted(groups[order], groups[order], side="left")
    return np.sort(order[np.arange(len(order)) - starts < limit])
