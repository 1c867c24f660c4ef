"""Everything that is reported about one task, from one matching."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from balms_seg.evaluation.lvis.detection_table import DetectionTable
from balms_seg.evaluation.lvis.detections import select_detections
from balms_seg.evaluation.lvis.error_kinds import (
    ErrorCounts,
    count_errors,
    overlaps_in_images,
)
from balms_seg.evaluation.lvis.ground_truth import LVIS_MAX_DETECTIONS, GroundTruth
from balms_seg.evaluation.lvis.lvis_ap import (
    LVISResult,
    annotation_shapes,
    check_arguments,
    evaluate_lvis,
    overlaps_to_match,
    summarise,
)
from balms_seg.evaluation.lvis.matching import match_detections
from balms_seg.evaluation.lvis.precision_recall import precision_recall
from balms_seg.evaluation.predictions.match_file import StoredMatches, reduce_matches
from balms_seg.evaluation.uncertainty.reliability import Reliability, calibration_by_group

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TaskAnalysis:
    """What one task gave.

    Attributes:
        result: AP, AR, overall, by group and per class.
        errors: per class and kind; None where they were not asked for.
        calibration: reliability of the scores per group; None where scores are not in [0, 1].
        matches: for intervals and comparisons.
    """

    result: LVISResult
    errors: ErrorCounts | None
    calibration: dict[str, Reliability] | None
    matches: StoredMatches


def analyse_task(
    ground_truth: GroundTruth,
    detections: Sequence[Mapping[str, Any]] | DetectionTable,
    task: str,
    *,
    max_detections: int | None = LVIS_MAX_DETECTIONS,
    with_errors: bool = True,
    backend: str = "numpy",
) -> TaskAnalysis:
    """Evaluate detections and find out why they fail.

    Args:
        ground_truth: annotations and groups.
        detections: as for `evaluate_lvis`.
        task: "bbox", "segm" or "boundary"; errors of "boundary" are sorted by mask IoU.
        max_detections: kept per image; None keeps all.
        with_errors: whether to sort the false positives by kind, which takes about as long as AP.
        backend: of AP and AR, as for `evaluate_lvis`; boundary AP is always ours.

    Raises:
        ValueError: an argument or a detection is malformed.
    """
    check_arguments(task, max_detections)
    ground_truth = ground_truth.for_task(task)
    selected = select_detections(detections, ground_truth, task, max_detections=max_detections)
    shapes = annotation_shapes(ground_truth, task)
    in_images = overlaps_in_images(ground_truth, selected, shapes) if with_errors else None
    overlaps = overlaps_to_match(ground_truth, selected, shapes, task, known=in_images)
    matches = match_detections(ground_truth, selected, overlaps)
    if backend == "numpy" or task == "boundary" or not detections:
        result = summarise(ground_truth, task, *precision_recall(matches))
    else:
        result = evaluate_lvis(
            ground_truth, detections, task, max_detections=max_detections, backend=backend
        )
    errors = None if in_images is None else count_errors(ground_truth, matches, in_images)
    scores = matches.detections.scores
    calibration = None
    if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
        logger.warning("Scores of %s lie outside [0, 1]; calibration is left out.", task)
    else:
        calibration = calibration_by_group(ground_truth, matches)
    return TaskAnalysis(result, errors, calibration, reduce_matches(ground_truth, matches, task))
