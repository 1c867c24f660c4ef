"""AP-fixed and AP-pool: what LVIS AP hides by its cap of detections an image.

Source: Dave, Dollar, Ramanan, Kirillov, Girshick 2021 (arXiv 2102.01066).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from balms_seg.evaluation.lvis.detection_table import DetectionTable
from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS, GroundTruth
from balms_seg.evaluation.lvis.lvis_ap import find_matches, summarise
from balms_seg.evaluation.lvis.matching import Matches
from balms_seg.evaluation.lvis.precision_recall import precision_recall

FIXED_PER_CLASS = 10_000


def fixed_and_pooled_ap(
    ground_truth: GroundTruth,
    detections: Sequence[Mapping[str, Any]] | DetectionTable,
    iou_type: str,
    *,
    max_per_class: int = FIXED_PER_CLASS,
) -> dict[str, float]:
    """AP without a cap an image, and AP over all classes in one ranking, overall and by group.

    AP_fixed keeps the `max_per_class` best detections of each class over the data set. AP_pool
    ranks these of all classes together, so that it asks for scores that classes can be compared
    by. Both mean what they say only if the model emitted more than 300 detections an image.

    Args:
        ground_truth: annotations and groups.
        detections: as for `evaluate_lvis`.
        iou_type: "bbox", "segm" or "boundary".
        max_per_class: detections of a class.

    Returns:
        AP_fixed, APr_fixed, APc_fixed, APf_fixed and the same with pool, as fractions; nan without
        ground truth.
    """
    ground_truth = ground_truth.for_task(iou_type)
    matches = find_matches(
        ground_truth, detections, iou_type, max_detections=None, max_per_class=max_per_class
    )
    fixed = summarise(ground_truth, iou_type, *precision_recall(matches)).metrics
    groups = {"AP": np.ones(ground_truth.num_classes, dtype=bool)}
    frequency = np.array(ground_truth.frequency)
    groups |= {f"AP{letter}": frequency == letter for letter in FREQUENCY_GROUPS}
    metrics = {f"{name}_fixed": fixed[name] for name in groups}
    for name, members in groups.items():
        precision, _ = precision_recall(pool_classes(matches, members))
        metrics[f"{name}_pool"] = float(precision[:, :, 0, 0].mean())
    return metrics


def pool_classes(matches: Matches, members: np.ndarray) -> Matches:
    """Matches of the chosen classes as those of a single class.

    Args:
        matches: of K classes.
        members: (K,) bool.
    """
    detections = matches.detections
    kept = np.flatnonzero(members[detections.classes])
    kept = kept[np.argsort(-detections.scores[kept], kind="stable")]
    new_place = np.full(len(detections.scores), -1)
    new_place[kept] = np.arange(len(kept))
    places = new_place[matches.rows]
    rows = np.flatnonzero(places >= 0)
    rows = rows[np.argsort(places[rows], kind="stable")]
    chosen = detections.take(kept)
    return Matches(
        detections=dataclasses.replace(chosen, classes=np.zeros_like(chosen.classes)),
        rows=places[rows],
        is_matched=matches.is_matched[rows],
        is_ignored=matches.is_ignored[rows],
        annotations=matches.annotations[rows],
        is_excused=matches.is_excused[kept],
        totals=matches.totals[members].sum(axis=0, keepdims=True),
    )
