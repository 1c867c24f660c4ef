"""What became of each annotated object: the detection that speaks for it decides.

Errors counted over all detections are mostly of low scores, which AP hardly notices. Here each
object counts once: the highest-scoring detection on it, of whatever class, speaks for it.

Symbols: m objects, K classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

from balms_seg.evaluation.ground_truth import GroundTruth
from balms_seg.evaluation.masks import segmentation_to_rle

FATES = ("right", "confused", "misplaced", "missed")
COVERING_IOU = 0.5
TOUCHING_IOU = 0.1


@dataclass(frozen=True, eq=False)
class ObjectFates:
    """Fates of m objects.

    Attributes:
        annotations: (m,) index into the ground truth.
        classes: (m,) class index of each object.
        fates: (m,) index into `FATES`: the best-scored detection that covers it (IoU from 0.5) has
            its class, or another; none covers it but one of its class touches it (IoU from 0.1); or
            neither.
        predicted: (m,) class of the detection that speaks for it, -1 where none covers it.
        scores: (m,) score of that detection, nan where there is none.
        ious: (m,) its IoU, nan likewise.
    """

    annotations: np.ndarray
    classes: np.ndarray
    fates: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray
    ious: np.ndarray

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
        detections: in the LVIS results format; those of unknown images are left out.
        task: "segm" compares masks, "bbox" boxes.
    """
    image_index = {image_id: i for i, image_id in enumerate(ground_truth.image_ids)}
    class_index = {category_id: i for i, category_id in enumerate(ground_truth.category_ids)}
    found = defaultdict(list)
    for detection in detections:
        if detection["image_id"] in image_index and detection["category_id"] in class_index:
            found[image_index[detection["image_id"]]].append(detection)
    objects = np.flatnonzero(~ground_truth.is_ignored)
    order = objects[np.argsort(ground_truth.images[objects], kind="stable")]
    images, starts = np.unique(ground_truth.images[order], return_index=True)
    size = len(order)
    fates = np.full(size, FATES.index("missed"))
    predicted = np.full(size, -1)
    scores, ious = np.full(size, np.nan), np.full(size, np.nan)
    for image, start, stop in zip(images, starts, [*starts[1:], size], strict=True):
        own = found.get(int(image), [])
        if not own:
            continue
        overlaps = _ious(ground_truth, order[start:stop], own, task)
        own_scores = np.array([detection["score"] for detection in own], dtype=float)
        own_classes = np.array([class_index[detection["category_id"]] for detection in own])
        for row in range(start, stop):
            overlap, true = overlaps[:, row - start], ground_truth.classes[order[row]]
            covers = np.flatnonzero(overlap >= COVERING_IOU)
            if len(covers):
                best = covers[np.argmax(own_scores[covers])]
                predicted[row], scores[row], ious[row] = (
                    own_classes[best],
                    own_scores[best],
                    overlap[best],
                )
                fates[row] = FATES.index("right" if own_classes[best] == true else "confused")
            elif (overlap[own_classes == true] >= TOUCHING_IOU).any():
                fates[row] = FATES.index("misplaced")
    return ObjectFates(order, ground_truth.classes[order], fates, predicted, scores, ious)


def _ious(
    ground_truth: GroundTruth, annotations: np.ndarray, detections: list[Any], task: str
) -> np.ndarray:
    """IoU of each detection with each annotation of one image, (n, m)."""
    size = ground_truth.image_sizes[ground_truth.images[annotations[0]]]
    if task == "bbox":
        found = np.array([detection["bbox"] for detection in detections], dtype=float)
        true = ground_truth.boxes[annotations]
    else:
        found = [segmentation_to_rle(d["segmentation"], size) for d in detections]
        true = [segmentation_to_rle(ground_truth.segmentations[i], size) for i in annotations]
    return np.asarray(mask_utils.iou(found, true, [0] * len(annotations)), dtype=float)
