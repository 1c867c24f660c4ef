"""Greedy matching of detections to annotations by LVIS's rules, for all images at once.

Symbols: n detections, p of them with an annotation they overlap, m annotations, E pairs, A area
ranges, T IoU thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balms_seg.evaluation.lvis.detections import Detections
from balms_seg.evaluation.lvis.ground_truth import GroundTruth
from balms_seg.evaluation.lvis.overlaps import Overlaps

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
#: Inclusive bounds in square pixels: all, small, medium, large.
AREA_RANGES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])


@dataclass(frozen=True, eq=False)
class Matches:
    """Which detections are right; kept small, since most detections overlap nothing.

    Attributes:
        detections: n detections, sorted by class, then descending score.
        rows: (p,) int64 the detections that overlap an annotation, ascending.
        is_matched: (p, A, T) bool, matched to an annotation.
        is_ignored: (p, A, T) bool, matched to one that is ignored.
        annotations: (p,) int64 the annotation matched over all areas at the first threshold, or -1.
        is_excused: (n, A) bool, does not count where unmatched.
        totals: (K, A) int64 annotations that count.
    """

    detections: Detections
    rows: np.ndarray
    is_matched: np.ndarray
    is_ignored: np.ndarray
    annotations: np.ndarray
    is_excused: np.ndarray
    totals: np.ndarray


def match_detections(
    ground_truth: GroundTruth, detections: Detections, overlaps: Overlaps
) -> Matches:
    """Match detections to annotations of the same image and class, best score first.

    An annotation that counts is preferred to an ignored one; then the largest IoU wins, and of
    equal ones the last.

    Args:
        ground_truth: m annotations.
        detections: sorted by descending score within each image and class.
        overlaps: pairs of the same image and class.
    """
    ignored = is_outside(ground_truth.areas) | ground_truth.is_ignored[:, None]
    rows, is_matched, is_ignored, annotations = _match_greedily(
        overlaps,
        detections.classes * ground_truth.num_images + detections.images,
        ignored,
        ground_truth.is_crowd,
    )
    may_be_missing = ground_truth.is_not_exhaustive[detections.images, detections.classes]
    return Matches(
        detections=detections,
        rows=rows,
        is_matched=is_matched,
        is_ignored=is_ignored,
        annotations=annotations,
        is_excused=is_outside(detections.areas) | may_be_missing[:, None],
        totals=np.stack(
            [
                np.bincount(ground_truth.classes[~column], minlength=ground_truth.num_classes)
                for column in ignored.T
            ],
            axis=1,
        ),
    )


def is_outside(areas: np.ndarray) -> np.ndarray:
    """Tell for each of n areas whether it lies outside each range, (n, A)."""
    return (areas[:, None] < AREA_RANGES[:, 0]) | (areas[:, None] > AREA_RANGES[:, 1])


def _match_greedily(
    overlaps: Overlaps, keys: np.ndarray, ignored: np.ndarray, is_crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give every image and class its turn at once: first their best detections, then the second.

    Args:
        overlaps: E pairs, those of a detection by ascending preference.
        keys: (n,) int64 image and class of each detection.
        ignored: (m, A) bool.
        is_crowd: (m,) bool, regions that stay free however many detections they have.

    Returns:
        rows, is_matched, is_ignored and annotations as in `Matches`.
    """
    rows, firsts, counts = np.unique(overlaps.rows, return_index=True, return_counts=True)
    shape = (len(rows), len(AREA_RANGES), len(IOU_THRESHOLDS))
    is_matched, is_ignored = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    annotations = np.full(len(rows), -1)
    is_free = np.ones((len(ignored), *shape[1:]), dtype=bool)
    preferred = np.int32(counts.max(initial=0))  # added where the annotation counts
    for turn in _turns(keys[rows]):
        pairs = np.repeat(firsts[turn] - np.cumsum(counts[turn]) + counts[turn], counts[turn])
        pairs += np.arange(len(pairs))
        starts = np.cumsum(counts[turn]) - counts[turn]
        preference = np.arange(1, len(pairs) + 1) - np.repeat(starts, counts[turn])
        columns = overlaps.columns[pairs]
        value = preference.astype(np.int32)[:, None] + preferred * ~ignored[columns]
        is_candidate = is_free[columns]
        is_candidate &= (overlaps.ious[pairs, None] >= IOU_THRESHOLDS)[:, None, :]
        best = np.maximum.reduceat(is_candidate * value[:, :, None], starts, axis=0)
        found = best > 0
        counted = best > preferred
        is_matched[turn], is_ignored[turn] = found, found & ~counted
        chosen = columns[starts[:, None, None] + best - preferred * counted - found]
        annotations[turn] = np.where(found[:, 0, 0], chosen[:, 0, 0], -1)
        _, areas, thresholds = np.nonzero(found)
        is_free[chosen[found], areas, thresholds] = is_crowd[chosen[found]]
    return rows, is_matched, is_ignored, annotations


def _turns(keys: np.ndarray) -> list[np.ndarray]:
    """Positions of the first entry of every key, of the second, and so on."""
    if len(keys) == 0:
        return []
    order = np.argsort(keys, kind="stable")
    is_first = np.diff(keys[order], prepend=-1) != 0
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(keys)), 0))
    turn = np.empty(len(keys), dtype=np.int64)
    turn[order] = np.arange(len(keys)) - first
    by_turn = np.argsort(turn, kind="stable")
    return np.split(by_turn, np.cumsum(np.bincount(turn))[:-1])
