"""Detections that are surer than most right ones, where nothing is annotated.

Symbols: n detections, u of them without an annotation, m objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

from balms_seg.evaluation.lvis.detection_table import DetectionTable
from balms_seg.evaluation.lvis.ground_truth import GroundTruth
from balms_seg.report.object_fates import COVERING_IOU, FATES, TOUCHING_IOU, ObjectFates


@dataclass(frozen=True, eq=False)
class Unannotated:
    """u detections of one run, in descending order of score.

    Attributes:
        images: (u,) image index.
        classes: (u,) class index.
        scores: (u,).
        boxes: (u, 4) x, y, width, height in px.
        detections: the same in the LVIS results format.
    """

    images: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    detections: list[Mapping[str, Any]]


def find_unannotated(
    ground_truth: GroundTruth, table: DetectionTable, fates: ObjectFates
) -> Unannotated:
    """Detections where an annotation seems to be missing.

    Their score is at least the median of those that speak for an object rightly, their box touches
    that of no annotation, of whatever class, and their class is annotated exhaustively in the
    image. Of several in one place the surest stays.

    Args:
        ground_truth: of the task.
        table: of the run.
        fates: of the objects, by the same detections.
    """
    right = fates.scores[fates.fates == FATES.index("right")]
    least = np.median(right) if len(right) else np.inf
    looked_for = ground_truth.is_verified & ~ground_truth.is_not_exhaustive
    rows = np.flatnonzero((table.scores >= least) & looked_for[table.images, table.classes])
    sure = table.take(rows[np.argsort(-table.scores[rows], kind="stable")])
    boxes = _boxes(sure)
    kept: list[int] = []
    order = np.argsort(sure.images, kind="stable")
    places, starts = np.unique(sure.images[order], return_index=True)
    groups = np.split(order, starts[1:]) if len(order) else []  # of nothing it makes one part
    annotated = np.argsort(ground_truth.images, kind="stable")
    images = ground_truth.images[annotated]
    bounds = zip(
        *(np.searchsorted(images, places, side) for side in ("left", "right")), strict=True
    )
    for (start, stop), own in zip(bounds, groups, strict=True):
        kept += _free_places(ground_truth, annotated[start:stop], boxes, own)
    final = np.array(sorted(kept), dtype=np.int64)
    chosen = sure.take(final)
    return Unannotated(
        images=chosen.images,
        classes=chosen.classes,
        scores=chosen.scores,
        boxes=boxes[final],
        detections=list(chosen.as_dicts(ground_truth)),
    )


def found_by_all(runs: Sequence[Unannotated]) -> Iterator[list[tuple[Unannotated, int]]]:
    """Each of the first run's that every other run has in the same place, of the same class."""
    first = runs[0] if runs else None
    for row in range(len(first.scores) if first else 0):
        group = [(run, _same(runs[0], row, run)) for run in runs]
        if all(i >= 0 for _, i in group):
            yield group


def _same(first: Unannotated, row: int, other: Unannotated) -> int:
    """The row of `other` for the same object; -1 where there is none."""
    if other is first:
        return row
    is_candidate = (other.images == first.images[row]) & (other.classes == first.classes[row])
    candidates = np.flatnonzero(is_candidate)
    overlaps = _overlaps(first.boxes[[row]], other.boxes[candidates])[0]
    good = candidates[overlaps >= COVERING_IOU]
    return int(good[0]) if len(good) else -1


def _free_places(
    ground_truth: GroundTruth, annotated: np.ndarray, boxes: np.ndarray, rows: np.ndarray
) -> list[int]:
    """Those of an image's detections, surest first, that touch no annotation and none before."""
    touched = _overlaps(
        boxes[rows], ground_truth.boxes[annotated], ground_truth.is_crowd[annotated]
    )
    free = rows[(touched < TOUCHING_IOU).all(axis=1)]
    kept: list[int] = []
    for row in free.tolist():
        if (_overlaps(boxes[[row]], boxes[kept]) < COVERING_IOU).all():
            kept.append(row)
    return kept


def _boxes(table: DetectionTable) -> np.ndarray:
    """(n, 4); where a detection has a mask alone, the mask's."""
    boxes = table.boxes.copy()
    for row in np.flatnonzero(np.isnan(boxes[:, 0])).tolist():
        boxes[row] = mask_utils.toBbox(table.masks[row])
    return boxes


def _overlaps(
    found: np.ndarray, true: np.ndarray, is_crowd: np.ndarray | None = None
) -> np.ndarray:
    """(n, m) IoU; of a crowd region, the share of the detection in it."""
    if not len(found) or not len(true):
        return np.zeros((len(found), len(true)))
    crowd = [0] * len(true) if is_crowd is None else is_crowd.astype(int).tolist()
    pairs = mask_utils.iou(np.asarray(found, float), np.asarray(true, float), crowd)
    return np.asarray(pairs, dtype=float)
