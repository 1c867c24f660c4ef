"""What became of each annotated object: the detection that speaks for it decides.

Errors counted over all detections are mostly of low scores, which AP hardly notices. Here each
object counts once: the highest-scoring detection on it, of whatever class, speaks for it.

Symbols: m objects, K classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

from balms_seg.evaluation.lvis.ground_truth import GroundTruth
from balms_seg.evaluation.lvis.masks import segmentation_to_rle

FATES = ("right", "confused", "misplaced", "missed")
COVERING_IOU = 0.5
TOUCHING_IOU = 0.1
_AT_ONCE = 10_000  # detections


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


def find_fates(
    ground_truth: GroundTruth, detections: Iterable[Mapping[str, Any]], task: str
) -> ObjectFates:
    """Find what became of each object that counts.

    Args:
        ground_truth: of the evaluation set.
        detections: in the LVIS results format, in any order; of those that pass by only the ones
            that speak for an object are kept. Those of unknown images are left out.
        task: "segm" compares masks, "bbox" boxes.
    """
    ground_truth = ground_truth.for_task(task)
    objects = np.flatnonzero(~ground_truth.is_ignored)
    order = objects[np.argsort(ground_truth.images[objects], kind="stable")]
    fates = ObjectFates(
        annotations=order,
        classes=ground_truth.classes[order],
        fates=np.full(len(order), FATES.index("missed")),
        predicted=np.full(len(order), -1),
        scores=np.full(len(order), np.nan),
        ious=np.full(len(order), np.nan),
        speakers=[None] * len(order),
    )
    images, starts = np.unique(ground_truth.images[order], return_index=True)
    stops = [*starts[1:].tolist(), len(order)]
    rows_of = dict(zip(images.tolist(), map(range, starts.tolist(), stops), strict=True))
    image_index = {image_id: i for i, image_id in enumerate(ground_truth.image_ids)}
    class_index = {category_id: i for i, category_id in enumerate(ground_truth.category_ids)}
    remaining = iter(detections)
    while batch := list(islice(remaining, _AT_ONCE)):
        found = defaultdict(list)
        for detection in batch:
            image = image_index.get(detection["image_id"], -1)
            if image in rows_of and detection["category_id"] in class_index:
                found[image].append(detection)
        for image, own in found.items():
            rows = rows_of[image]
            overlaps = _ious(ground_truth, order[rows.start : rows.stop], own, task)
            classes = np.array([class_index[detection["category_id"]] for detection in own])
            _update(fates, rows, own, classes, overlaps)
    return fates


def _update(
    fates: ObjectFates,
    rows: range,
    detections: list[Mapping[str, Any]],
    classes: np.ndarray,
    overlaps: np.ndarray,
) -> None:
    """Let further detections of an image speak for its objects, in place.

    Args:
        fates: what is known so far.
        rows: the image's m objects.
        detections: n of the image.
        classes: (n,) class index of each.
        overlaps: (n, m) IoU.
    """
    all_scores = np.array([detection["score"] for detection in detections], dtype=float)
    for row, overlap in zip(rows, overlaps.T, strict=True):
        true = fates.classes[row]
        covers = np.flatnonzero(overlap >= COVERING_IOU)
        if len(covers):
            best = covers[np.argmax(all_scores[covers])]
            if fates.predicted[row] < 0 or all_scores[best] > fates.scores[row]:
                fates.predicted[row], fates.scores[row] = classes[best], all_scores[best]
                fates.ious[row], fates.speakers[row] = overlap[best], detections[best]
                fates.fates[row] = FATES.index("right" if classes[best] == true else "confused")
        elif fates.predicted[row] < 0 and (overlap[classes == true] >= TOUCHING_IOU).any():
            fates.fates[row] = FATES.index("misplaced")


def _ious(
    ground_truth: GroundTruth, annotations: np.ndarray, detections: list[Any], task: str
) -> np.ndarray:
    """IoU of each detection with each annotation of one image, (n, m)."""
    size = ground_truth.image_sizes[ground_truth.images[annotations[0]]]
    if task == "bbox":
        found: Any = np.array([detection["bbox"] for detection in detections], dtype=float)
        true = ground_truth.boxes[annotations]
    else:
        found = [segmentation_to_rle(d["segmentation"], size) for d in detections]
        true = [segmentation_to_rle(ground_truth.segmentations[i], size) for i in annotations]
    return np.asarray(mask_utils.iou(found, true, [0] * len(annotations)), dtype=float)
