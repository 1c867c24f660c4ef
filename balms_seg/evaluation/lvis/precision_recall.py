"""Interpolated precision and largest recall of matched detections, per class.

Symbols: n detections, p of them that overlap an annotation, K classes, A area ranges, T IoU
thresholds, R recall levels.
"""

from __future__ import annotations

import numpy as np

from balms_seg.evaluation.lvis.matching import AREA_RANGES, IOU_THRESHOLDS, Matches

RECALL_LEVELS = np.linspace(0.0, 1.0, 101)


def precision_recall(matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """Interpolated precision (T, R, K, A) and largest recall (T, K, A), nan without annotations.

    Only true positives have to be looked at: elsewhere precision falls, so that none of the maxima
    that interpolation takes lies there. How many detections count up to a true positive follows
    from one running sum over all detections, which does not depend on the threshold, corrected
    where a match makes an excused detection count or an ignored annotation makes one not count.
    """
    totals, classes = matches.totals, matches.detections.classes
    num_classes, num_areas = totals.shape
    shape = (len(IOU_THRESHOLDS), len(RECALL_LEVELS), num_classes, num_areas)
    precision = np.full(shape, np.nan)
    recall = np.full((shape[0], num_classes, num_areas), np.nan)
    starts = np.searchsorted(classes, np.arange(num_classes))
    row_classes = classes[matches.rows]
    row_starts = np.searchsorted(row_classes, np.arange(num_classes))
    for area in range(len(AREA_RANGES)):
        has_any = totals[:, area] > 0
        counts_unmatched = ~matches.is_excused[:, area]
        unmatched = running_count(counts_unmatched, starts, classes)[matches.rows]
        needed = _needed_true_positives(totals[has_any, area])
        for threshold in range(len(IOU_THRESHOLDS)):
            matched = matches.is_matched[:, area, threshold]
            is_true = matched & ~matches.is_ignored[:, area, threshold]
            change = is_true.astype(np.int64) - (matched & counts_unmatched[matches.rows])
            counted = unmatched + running_count(change, row_starts, row_classes)
            found = np.bincount(row_classes[is_true], minlength=num_classes)
            true_classes = row_classes[is_true]
            true_starts = np.cumsum(found) - found
            true_positives = np.arange(1, len(true_classes) + 1) - true_starts[true_classes]
            values = true_positives / (counted[is_true] + np.spacing(1))
            envelope = _largest_from_here(values, true_classes)
            at = np.where(needed <= found[has_any, None], true_starts[has_any, None] + needed, 0)
            precision[threshold][:, has_any, area] = np.append(0.0, envelope)[at].T
            recall[threshold, has_any, area] = found[has_any] / totals[has_any, area]
    return precision, recall


def running_count(values: np.ndarray, starts: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Running sum that begins anew with each class.

    Args:
        values: (n,) integers or bools, sorted by class.
        starts: (K,) int64 where each class begins.
        classes: (n,) int64.
    """
    before = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return before[1:] - before[starts][classes]


def _needed_true_positives(totals: np.ndarray) -> np.ndarray:
    """Smallest number of true positives, at least 1, that reaches each recall level, (k, R)."""
    totals = totals[:, None]
    needed = np.ceil(RECALL_LEVELS * totals).astype(np.int64)
    # The comparison itself decides, as rounding may put the product on the other side of it.
    needed -= (needed - 1) / totals >= RECALL_LEVELS
    needed += needed / totals < RECALL_LEVELS
    return np.maximum(needed, 1)


def _largest_from_here(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Maximum of this and the later values of the same class, by doubling the reach."""
    values = values.copy()
    reach = 1
    while reach < len(values):
        is_same = classes[reach:] == classes[:-reach]
        if not is_same.any():
            break
        values[:-reach] = np.where(
            is_same, np.maximum(values[:-reach], values[reach:]), values[:-reach]
        )
        reach *= 2
    return values
