"""Interpolated precision and largest recall of matched detections, per class.

Symbols: n detections, p of them that overlap an annotation, K classes, A area ranges, T IoU
thresholds, R recall levels.
"""

from __future__ import annotations

import numpy as np

from balms_seg.evaluation.lvis.matching import IOU_THRESHOLDS, Matches

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
    num_thresholds = len(IOU_THRESHOLDS)
    # In the order in which it is written.
    precision = np.full((num_areas, num_thresholds, num_classes, len(RECALL_LEVELS)), np.nan)
    recall = np.full((num_areas, num_thresholds, num_classes), np.nan)
    starts = np.searchsorted(classes, np.arange(num_classes))
    row_classes = classes[matches.rows]
    row_starts = np.searchsorted(row_classes, np.arange(num_classes))
    is_matched = np.ascontiguousarray(matches.is_matched.transpose(1, 2, 0))
    is_ignored = np.ascontiguousarray(matches.is_ignored.transpose(1, 2, 0))
    for area in range(num_areas):
        has_any = totals[:, area] > 0
        counts_unmatched = ~matches.is_excused[:, area]
        unmatched = running_count(counts_unmatched, starts, classes, matches.rows)
        row_counts_unmatched = counts_unmatched[matches.rows]
        needed = _needed_true_positives(totals[has_any, area])
        for threshold in range(num_thresholds):
            matched = is_matched[area, threshold]
            is_true = matched & ~is_ignored[area, threshold]
            change = is_true.astype(np.int8) - (matched & row_counts_unmatched)
            true_rows = np.flatnonzero(is_true)
            counted = unmatched[true_rows]
            if change.any():
                counted = counted + running_count(change, row_starts, row_classes, true_rows)
            true_classes = row_classes[true_rows]
            found = np.bincount(true_classes, minlength=num_classes)
            true_starts = np.cumsum(found) - found
            true_positives = np.arange(1, len(true_classes) + 1) - true_starts[true_classes]
            values = true_positives / (counted + np.spacing(1))
            envelope = _largest_from_here(values, true_classes)
            at = np.where(needed <= found[has_any, None], true_starts[has_any, None] + needed, 0)
            precision[area, threshold, has_any] = np.append(0.0, envelope)[at]
            recall[area, threshold, has_any] = found[has_any] / totals[has_any, area]
    return precision.transpose(1, 3, 2, 0), recall.transpose(1, 2, 0)


def running_count(
    values: np.ndarray,
    starts: np.ndarray,
    classes: np.ndarray,
    rows: np.ndarray | slice = slice(None),
) -> np.ndarray:
    """Running sum that begins anew with each class, at the chosen rows.

    Args:
        values: (n,) integers or bools, sorted by class.
        starts: (K,) int64 where each class begins.
        classes: (n,) int64.
        rows: places among the n; all of them by default.
    """
    before = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return before[1:][rows] - before[starts][classes[rows]]


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
