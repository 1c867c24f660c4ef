"""Why a class fails: its false positives by kind, what it misses, and what it is taken for.

Source: Bolya et al. 2020, TIDE (arXiv 2008.08115); kinds and their order of precedence follow its
published code, at an IoU of 0.5 for right and 0.1 for background. Counts, not their effect on AP.
By LVIS's rules only classes verified in an image can be wrong there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from balms_seg.evaluation.lvis.detections import Detections
from balms_seg.evaluation.lvis.ground_truth import GroundTruth
from balms_seg.evaluation.lvis.matching import IOU_THRESHOLDS, Matches
from balms_seg.evaluation.lvis.overlaps import Overlaps, find_overlaps

BACKGROUND_IOU = 0.1
FALSE_POSITIVE_KINDS = ("localisation", "classification", "duplicate", "background", "both")
ERROR_KINDS = (*FALSE_POSITIVE_KINDS, "missed")


@dataclass(frozen=True, eq=False)
class ErrorCounts:
    """Errors of one task per class.

    Attributes:
        counts: per kind of `ERROR_KINDS`, (K,) int64. False positives count for the class that was
            predicted, "missed" for the class of the annotation: localisation is an IoU of 0.1 to
            0.5 with an object of the class, classification one of 0.5 with an object of another
            class, duplicate one with an object that a better detection has, background less than
            0.1 with everything, both is what remains. An object is missed if nothing matches it,
            and no localisation or classification error lies on it.
        confused_with: (K,) int64 the class most predicted on objects of each class by mistake,
            weighted by score; -1 without any.
    """

    counts: dict[str, np.ndarray]
    confused_with: np.ndarray


def overlaps_in_images(ground_truth: GroundTruth, detections: Detections, shapes: Any) -> Overlaps:
    """Pairs of one image that are no background to each other, whatever their classes.

    Args:
        ground_truth: m annotations.
        detections: n of them.
        shapes: boxes (m, 4) or m RLEs of the annotations, as the detections have.
    """
    return find_overlaps(
        detections, ground_truth.images, shapes, detections.images, threshold=BACKGROUND_IOU
    )


def count_errors(ground_truth: GroundTruth, matches: Matches, in_images: Overlaps) -> ErrorCounts:
    """Sort the false positives of all classes by kind.

    Args:
        ground_truth: m annotations.
        matches: of detections with these.
        in_images: what `overlaps_in_images` gives for the same detections.
    """
    detections = matches.detections
    is_false = ~matches.is_excused[:, 0]
    is_false[matches.rows[matches.is_matched[:, 0, 0]]] = False
    false = np.flatnonzero(is_false)
    overlaps = in_images.take(np.flatnonzero(is_false[in_images.rows]))
    overlaps = replace(overlaps, rows=(np.cumsum(is_false) - 1)[overlaps.rows])
    classes = detections.classes[false]
    is_own = ground_truth.classes[overlaps.columns] == classes[overlaps.rows]
    own = _largest(overlaps, is_own, len(false))
    other = _largest(overlaps, ~is_own, len(false))
    own_iou, other_iou = (_iou_of(overlaps, pair) for pair in (own, other))
    right = IOU_THRESHOLDS[0]
    kind = np.select(
        [
            (own_iou >= BACKGROUND_IOU) & (own_iou < right),
            other_iou >= right,
            own_iou >= right,
            np.maximum(own_iou, other_iou) < BACKGROUND_IOU,
        ],
        [0, 1, 2, 3],
        default=4,
    )
    num_classes = ground_truth.num_classes
    counts = {
        name: np.bincount(classes[kind == number], minlength=num_classes)
        for number, name in enumerate(FALSE_POSITIVE_KINDS)
    }
    covering = np.concatenate([own[kind == 0], other[kind == 1]])
    counts["missed"] = _count_missed(ground_truth, matches, overlaps.columns[covering])
    confused = other[kind == 1]
    return ErrorCounts(
        counts=counts,
        confused_with=_most_predicted(
            ground_truth.classes[overlaps.columns[confused]],
            classes[kind == 1],
            detections.scores[false][kind == 1],
            num_classes,
        ),
    )


def _largest(overlaps: Overlaps, chosen: np.ndarray, num_rows: int) -> np.ndarray:
    """The chosen pair of largest IoU of each detection, -1 without one, (num_rows,)."""
    largest = np.full(num_rows, -1)
    pairs = np.flatnonzero(chosen)
    largest[overlaps.rows[pairs]] = pairs  # pairs ascend by IoU: the last one written stays
    return largest


def _iou_of(overlaps: Overlaps, pairs: np.ndarray) -> np.ndarray:
    return np.where(pairs >= 0, np.append(overlaps.ious, 0.0)[pairs], 0.0)


def _count_missed(ground_truth: GroundTruth, matches: Matches, covered: np.ndarray) -> np.ndarray:
    is_missed = ~ground_truth.is_ignored
    is_missed[matches.annotations[matches.annotations >= 0]] = False
    is_missed[covered] = False
    return np.bincount(ground_truth.classes[is_missed], minlength=ground_truth.num_classes)


def _most_predicted(
    true: np.ndarray, predicted: np.ndarray, scores: np.ndarray, num_classes: int
) -> np.ndarray:
    pairs, inverse = np.unique(true * num_classes + predicted, return_inverse=True)
    weights = np.bincount(inverse, weights=scores, minlength=len(pairs))
    order = np.argsort(weights, kind="stable")
    most = np.full(num_classes, -1)
    most[pairs[order] // num_classes] = pairs[order] % num_classes
    return most
