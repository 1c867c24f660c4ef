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
_NUM_AREAS, _NUM_THRESHOLDS = len(AREA_RANGES), len(IOU_THRESHOLDS)
_ALL_BITS = np.uint64((1 << _NUM_AREAS * _NUM_THRESHOLDS) - 1)


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

    The A x T combinations of an area range and a threshold are the bits of one number.

    Args:
        overlaps: E pairs, those of a detection by ascending preference.
        keys: (n,) int64 image and class of each detection.
        ignored: (m, A) bool.
        is_crowd: (m,) bool, regions that stay free however many detections they have.

    Returns:
        rows, is_matched, is_ignored and annotations as in `Matches`.
    """
    rows, firsts, counts = np.unique(overlaps.rows, return_index=True, return_counts=True)
    last = firsts + counts - 1
    reached = _bits_of_thresholds(overlaps.ious)
    is_ignored = _bits_of_areas(ignored)
    free = np.full(len(ignored), _ALL_BITS)
    matched, matched_ignored = np.zeros((2, len(rows)), np.uint64)
    annotations = np.full(len(rows), -1)
    for turn in _turns(keys[rows]):
        for wanted, of_ignored in ((~is_ignored, False), (is_ignored, True)):
            for rank in range(int(counts[turn].max())):
                own = turn[counts[turn] > rank]
                pairs = last[own] - rank
                columns = overlaps.columns[pairs]
                taken = reached[pairs] & free[columns] & wanted[columns] & ~matched[own]
                matched[own] |= taken
                if of_ignored:
                    matched_ignored[own] |= taken
                free[columns] &= ~np.where(is_crowd[columns], 0, taken)
                annotations[own] = np.where(taken & 1, columns, annotations[own])
    return rows, _unpacked(matched), _unpacked(matched_ignored), annotations


def _bits_of_thresholds(ious: np.ndarray) -> np.ndarray:
    """The thresholds that each of E overlaps reaches, for all areas, (E,) uint64."""
    num_reached = np.searchsorted(IOU_THRESHOLDS, ious, side="right")
    of_one_area = (np.uint64(1) << num_reached.astype(np.uint64)) - np.uint64(1)
    return of_one_area * np.uint64(sum(1 << area * _NUM_THRESHOLDS for area in range(_NUM_AREAS)))


def _bits_of_areas(is_set: np.ndarray) -> np.ndarray:
    """Bits of all thresholds for the areas that are set in (m, A) bool, (m,) uint64."""
    of_one_area = (1 << _NUM_THRESHOLDS) - 1
    bits = [of_one_area << area * _NUM_THRESHOLDS for area in range(_NUM_AREAS)]
    return is_set.astype(np.uint64) @ np.array(bits, np.uint64)


def _unpacked(bits: np.ndarray) -> np.ndarray:
    """(p,) uint64 as (p, A, T) bool."""
    characters = bits.astype("<u8").view(np.uint8).reshape(len(bits), 8)
    number = _NUM_AREAS * _NUM_THRESHOLDS
    flat = np.unpackbits(characters, axis=1, count=number, bitorder="little").view(bool)
    return flat.reshape(len(bits), _NUM_AREAS, _NUM_THRESHOLDS)


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
