"""Pairs of a detection and an annotation of its image and class that overlap enough to match.

Symbols: n detections, m annotations, E pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

from balms_seg.evaluation.lvis.detection_table import MaskColumn
from balms_seg.evaluation.lvis.detections import Detections
from balms_seg.evaluation.lvis.masks import mask_areas
from balms_seg.progress import with_progress

_MASK_PAIRS_AT_ONCE = 1 << 18
_BOX_PAIRS_AT_ONCE = 1 << 15  # whose arrays stay in a processor's cache
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Pairs by ascending detection, then ascending IoU, then ascending annotation.

    Attributes:
        rows: (E,) int64 detection.
        columns: (E,) int64 annotation.
        ious: (E,) float64.
    """

    rows: np.ndarray
    columns: np.ndarray
    ious: np.ndarray

    def take(self, pairs: np.ndarray) -> Overlaps:
        """The chosen pairs, which stay in order where `pairs` ascend."""
        return Overlaps(self.rows[pairs], self.columns[pairs], self.ious[pairs])


def find_overlaps(
    detections: Detections,
    annotation_keys: np.ndarray,
    annotation_shapes: Any,
    detection_keys: np.ndarray,
    *,
    threshold: float,
    is_crowd: np.ndarray | None = None,
) -> Overlaps:
    """Find all pairs of equal key whose IoU reaches the threshold.

    Args:
        detections: n of them, with boxes or masks.
        annotation_keys: (m,) int64; detections are compared with annotations of the same key.
        annotation_shapes: (m, 4) boxes, or m compressed RLEs, as the detections have.
        detection_keys: (n,) int64.
        threshold: smallest IoU of a pair, above 0.
        is_crowd: (m,) bool, crowd regions, with which the IoU is the share of the detection that
            lies in them, as in pycocotools; None: no annotation is one.
    """
    if is_crowd is None:
        is_crowd = np.zeros(len(annotation_keys), dtype=bool)
    shapes: Any = detections.shapes
    are_boxes = isinstance(shapes, np.ndarray)
    if are_boxes:
        first, second = _Boxes(shapes), _Boxes(annotation_shapes)
    else:
        areas = mask_areas(annotation_shapes)
    parts = []
    at_once = _BOX_PAIRS_AT_ONCE if are_boxes else _MASK_PAIRS_AT_ONCE
    for rows, columns in _pairs(detection_keys, annotation_keys, at_once):
        places = detections.places[rows]
        if are_boxes:
            kept, ious = _box_ious(first, second, places, columns, is_crowd)
        else:
            kept = _of_similar_area(
                detections.areas[rows], areas[columns], threshold, is_crowd[columns]
            )
            ious = mask_ious(
                shapes,
                annotation_shapes,
                places[kept],
                columns[kept],
                detection_keys[rows[kept]],
                is_crowd,
            )
        kept, ious = kept[ious >= threshold], ious[ious >= threshold]
        parts.append((rows[kept], columns[kept], ious))
    rows, columns, ious = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = _order_of_pairs(rows, columns, ious)
    return Overlaps(rows[order], columns[order], ious[order])


def _order_of_pairs(rows: np.ndarray, columns: np.ndarray, ious: np.ndarray) -> np.ndarray:
    """By row, then IoU, then column; most rows have one pair, so that the latter are of few."""
    order = np.argsort(rows, kind="stable")
    is_repeated = np.diff(rows[order], prepend=-1, append=-1) == 0
    shared = np.flatnonzero(is_repeated[1:] | is_repeated[:-1])
    own = order[shared]
    order[shared] = own[np.lexsort((columns[own], ious[own], rows[own]))]
    return order


def _of_similar_area(
    first: np.ndarray, second: np.ndarray, threshold: float, is_crowd: np.ndarray
) -> np.ndarray:
    """Which of E pairs of areas allow an IoU of the threshold; a box test would cost more."""
    needed = (threshold / (1 + threshold) - _ROUNDING) * (first + second)
    return np.flatnonzero((np.minimum(first, second) >= needed) | is_crowd)


def _pairs(
    row_keys: np.ndarray, column_keys: np.ndarray, at_once: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All (row, column) of equal key, by key, row, then column, in parts of bounded size."""
    order = np.argsort(column_keys, kind="stable")
    row_order = np.argsort(row_keys, kind="stable")
    ordered, row_keys = column_keys[order], row_keys[row_order]
    is_new = np.diff(row_keys, prepend=-1) != 0
    different, number = row_keys[is_new], np.cumsum(is_new) - 1
    starts = np.searchsorted(ordered, different, side="left")[number]
    counts = np.searchsorted(ordered, different, side="right")[number] - starts
    part = np.cumsum(counts) // at_once
    parts = np.split(np.arange(len(row_keys)), np.flatnonzero(np.diff(part)) + 1)
    for own in with_progress(parts, label="overlaps", unit="part"):
        rows = np.repeat(own, counts[own])
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts[own]) - counts[own], counts[own])
        yield row_order[rows], order[np.repeat(starts[own], counts[own]) + within]


class _Boxes:
    """Sides of n boxes (x, y, width, height), each in an array of its own."""

    def __init__(self, boxes: np.ndarray) -> None:
        self.low = np.ascontiguousarray(boxes[:, :2].T)
        self.high = np.ascontiguousarray((boxes[:, :2] + boxes[:, 2:]).T)
        self.areas = boxes[:, 2] * boxes[:, 3]


def _box_ious(
    first: _Boxes, second: _Boxes, rows: np.ndarray, columns: np.ndarray, is_crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which of E pairs overlap at all, and the IoU of these, in pycocotools' arithmetic.

    Where the second box is a crowd region, the share of the first one that lies in it.
    """
    kept = np.arange(len(rows))
    overlaps: np.ndarray = np.ones(len(rows))
    for axis in (0, 1):
        own, others = rows[kept], columns[kept]
        sides = np.minimum(first.high[axis][own], second.high[axis][others])
        sides -= np.maximum(first.low[axis][own], second.low[axis][others])
        is_positive = sides > 0
        kept, overlaps = kept[is_positive], (overlaps * sides)[is_positive]
    own_areas = first.areas[rows[kept]]
    unions = own_areas + second.areas[columns[kept]] - overlaps
    return kept, overlaps / np.where(is_crowd[columns[kept]], own_areas, unions)


def mask_ious(
    first: Sequence[dict[str, Any]] | Mapping[int, dict[str, Any]],
    second: Sequence[dict[str, Any]] | Mapping[int, dict[str, Any]],
    rows: np.ndarray,
    columns: np.ndarray,
    keys: np.ndarray,
    is_crowd: np.ndarray,
) -> np.ndarray:
    """IoU of the masks `first[rows]` and `second[columns]`, (E,) float64.

    Args:
        first: compressed RLEs.
        second: likewise.
        rows: (E,) int64.
        columns: (E,) int64.
        keys: (E,) int64; a row, and a column, stands in pairs of one key only. All masks of a key
            are compared in one call.
        is_crowd: (m,) bool, as for `find_overlaps`.
    """
    if len(rows) == 0:
        return np.zeros(0)
    rows_of, row_bounds, row_places = _by_key(rows, keys)
    columns_of, column_bounds, column_places = _by_key(columns, keys)
    own, other = _chosen(first, rows_of), _chosen(second, columns_of)
    crowd_flags = is_crowd[columns_of].astype(int).tolist()
    blocks = []
    for row_start, row_stop, start, stop in zip(
        row_bounds[:-1], row_bounds[1:], column_bounds[:-1], column_bounds[1:], strict=True
    ):
        block = mask_utils.iou(own[row_start:row_stop], other[start:stop], crowd_flags[start:stop])
        blocks.append(np.asarray(block).reshape(-1))
    widths = np.diff(column_bounds)
    ends = np.cumsum(np.diff(row_bounds) * widths)
    number = np.unique(keys, return_inverse=True)[1]
    starts = np.concatenate([[0], ends])[number]
    return np.concatenate(blocks)[starts + row_places * widths[number] + column_places]


def _chosen(
    masks: Sequence[dict[str, Any]] | Mapping[int, dict[str, Any]], places: list[int]
) -> list[dict[str, Any]]:
    if isinstance(masks, MaskColumn):
        return masks.take(np.array(places))[:]
    return [masks[place] for place in places]


def _by_key(items: np.ndarray, keys: np.ndarray) -> tuple[list[int], list[int], np.ndarray]:
    """Different items sorted by key, the bounds of each key's, and each entry's place therein."""
    different, first, where = np.unique(items, return_index=True, return_inverse=True)
    order = np.argsort(keys[first], kind="stable")
    bounds = np.flatnonzero(np.diff(keys[first][order], prepend=-1, append=-1))
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order)) - np.repeat(bounds[:-1], np.diff(bounds))
    return different[order].tolist(), bounds.tolist(), places[where]
