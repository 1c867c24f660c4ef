"""What became of each annotated object: the detection that speaks for it decides.

Errors counted over all detections are mostly of low scores, which AP hardly notices. Here each
object counts once: the highest-scoring detection on it, of whatever class, speaks for it.

Symbols: m objects, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from balms_seg.evaluation.lvis.detection_table import DetectionTable
from balms_seg.evaluation.lvis.detections import Detections
from balms_seg.evaluation.lvis.ground_truth import GroundTruth
from balms_seg.evaluation.lvis.lvis_ap import annotation_shapes
from balms_seg.evaluation.lvis.masks import mask_areas
from balms_seg.evaluation.lvis.overlaps import Overlaps, find_overlaps

FATES = ("right", "confused", "misplaced", "not found")
COVERING_IOU = 0.5
TOUCHING_IOU = 0.1


@dataclass(frozen=True, eq=False)
class ObjectFates:
    """Fates of m objects.

    Attributes:
        annotations: (m,) index into the ground truth of the task.
        classes: (m,) class index of each object.
        fates: (m,) index into `FATES`: the best-scored detection that covers it (IoU from 0.5) has
            its class, or another; none covers it but one of its class touches it (IoU from 0.1); or
            neither.
        predicted: (m,) class of the detection that speaks for it, -1 where none covers it.
        scores: (m,) score of that detection, nan where there is none.
        ious: (m,) its IoU, nan likewise.
        speakers: (m,) that detection, None likewise.
    """

    annotations: np.ndarray
    classes: np.ndarray
    fates: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray
    ious: np.ndarray
    speakers: list[Mapping[str, Any] | None]

    def counts(self, num_classes: int) -> np.ndarray:
        """Objects per class and fate, (K, 4)."""
        flat = self.classes * len(FATES) + self.fates
        return np.bincount(flat, minlength=num_classes * len(FATES)).reshape(-1, len(FATES))

    def confusion(self, num_classes: int) -> np.ndarray:
        """Objects by their class and the class predicted for them, (K, K); uncovered left out."""
        covered = self.predicted >= 0
        matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
        np.add.at(matrix, (self.classes[covered], self.predicted[covered]), 1)
        return matrix


def find_fates(ground_truth: GroundTruth, table: DetectionTable, task: str) -> ObjectFates:
    """Find what became of each object that counts.

    Args:
        ground_truth: of the evaluation set.
        table: detections, of which those without the task's shape play no part; of equal scores
            the earlier one speaks.
        task: "segm" compares masks, "bbox" boxes.
    """
    ground_truth = ground_truth.for_task(task)
    objects = np.flatnonzero(~ground_truth.is_ignored)
    objects = objects[np.argsort(ground_truth.images[objects], kind="stable")]
    classes = ground_truth.classes[objects]
    places = np.flatnonzero(table.has_shape(task))
    overlaps = _overlaps(ground_truth, objects, table, places, task)
    rows = places[overlaps.rows]
    fates = np.full(len(objects), FATES.index("not found"))
    touches = table.classes[rows] == classes[overlaps.columns]
    fates[overlaps.columns[touches]] = FATES.index("misplaced")
    covers = np.flatnonzero(overlaps.ious >= COVERING_IOU)
    order = covers[
        np.lexsort((rows[covers], -table.scores[rows[covers]], overlaps.columns[covers]))
    ]
    covered, first = np.unique(overlaps.columns[order], return_index=True)
    speaking = rows[order[first]]
    predicted, scores, ious = np.full(len(objects), -1), *np.full((2, len(objects)), np.nan)
    predicted[covered] = table.classes[speaking]
    scores[covered], ious[covered] = table.scores[speaking], overlaps.ious[order[first]]
    is_right = predicted[covered] == classes[covered]
    fates[covered] = np.where(is_right, FATES.index("right"), FATES.index("confused"))
    speakers: list[Mapping[str, Any] | None] = [None] * len(objects)
    spoken = table.take(speaking).as_dicts(ground_truth)
    for object_, detection in zip(covered.tolist(), spoken, strict=True):
        speakers[object_] = detection
    return ObjectFates(objects, classes, fates, predicted, scores, ious, speakers)


def _overlaps(
    ground_truth: GroundTruth,
    objects: np.ndarray,
    table: DetectionTable,
    places: np.ndarray,
    task: str,
) -> Overlaps:
    """Pairs of one image from `TOUCHING_IOU` on, by place in `places` and in `objects`."""
    images, boxes = table.images[places].astype(np.int64), table.boxes
    is_seen = np.isin(ground_truth.images[objects], images)
    seen = np.flatnonzero(is_seen)  # only these need a size
    own = ground_truth.take(objects[seen])
    detections = Detections(
        images=images,
        classes=table.classes[places].astype(np.int64),
        scores=table.scores[places],
        areas=boxes[places, 2] * boxes[places, 3]
        if task == "bbox"
        else mask_areas(table.masks.take(places)),
        places=places,
        shapes=boxes if task == "bbox" else table.masks,
    )
    overlaps = find_overlaps(
        detections, own.images, annotation_shapes(own, task), images, threshold=TOUCHING_IOU
    )
    return replace(overlaps, columns=seen[overlaps.columns])
