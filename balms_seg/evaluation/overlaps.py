"""Pairs of a detection and an annotation of its image and class that overlap enough to match.

Symbols: n detections, m annotations, E pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

from .detections import Detections
from .masks import mask_areas, mask_boxes

_PAIRS_AT_ONCE = 1 << 20
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


def find_overlaps(
    detections: Detections,
    annotation_keys: np.ndarray,
    annotation_shapes: Any,
    detection_keys: np.ndarray,
    *,
    threshold: float,
) -> Overlaps:
    """Find all pairs of equal key whose IoU reaches the threshold.

    Args:
        detections: n of them, with boxes or masks.
        annotation_keys: (m,) int64; detections are compared with annotations of the same key.
        annotation_shapes: (m, 4) boxes, or m compressed RLEs, as the detections have.
        detection_keys: (n,) int64.
        threshold: smallest IoU of a pair, above 0.
    """
    is_box = isinstance(detections.shapes, np.ndarray)
    masks = None if is_box else _Masks(detections, annotation_shapes)
    parts = []
    for rows, columns in _pairs(detection_keys, annotation_keys):
        if masks is None:
            ious = box_ious(detections.shapes[rows], annotation_shapes[columns])
        else:
            rows, columns = masks.possible_pairs(rows, columns, threshold)
            ious = mask_ious(detections.shapes, annotation_shapes, rows, columns)
        kept = ious >= threshold
        parts.append((rows[kept], columns[kept], ious[kept]))
    rows, columns, ious = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.lexsort((columns, ious, rows))
    return Overlaps(rows[order], columns[order], ious[order])


class _Masks:
    """Rules out pairs of masks by their areas and bounding boxes, which cost less than their IoU.

    IoU is at most the boxes' overlap over the larger area.
    """

    def __init__(self, detections: Detections, annotation_masks: Sequence[dict[str, Any]]) -> None:
        self._detections = detections
        self._areas = mask_areas(annotation_masks)
        self._boxes = mask_boxes(annotation_masks)

    def possible_pairs(
        self, rows: np.ndarray, columns: np.ndarray, threshold: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Those pairs whose IoU may reach the threshold."""
        own, other = self._detections.areas[rows], self._areas[columns]
        needed = (threshold - _ROUNDING) * np.maximum(own, other)
        kept = np.flatnonzero(np.minimum(own, other) >= needed)
        rows, columns, needed = rows[kept], columns[kept], needed[kept]
        used, where = np.unique(rows, return_inverse=True)
        boxes = mask_boxes([self._detections.shapes[row] for row in used.tolist()])
        kept = np.flatnonzero(_box_overlaps(boxes[where], self._boxes[columns]) >= needed)
        return rows[kept], columns[kept]


def _pairs(
    row_keys: np.ndarray, column_keys: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All (row, column) of equal key, by row, then column, in parts of bounded size."""
    order = np.argsort(column_keys, kind="stable")
    ordered = column_keys[order]
    starts = np.searchsorted(ordered, row_keys, side="left")
    counts = np.searchsorted(ordered, row_keys, side="right") - starts
    part = np.cumsum(counts) // _PAIRS_AT_ONCE
    for own in np.split(np.arange(len(row_keys)), np.flatnonzero(np.diff(part)) + 1):
        rows = np.repeat(own, counts[own])
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts[own]) - counts[own], counts[own])
        yield rows, order[np.repeat(starts[own], counts[own]) + within]


def box_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of E pairs of boxes (x, y, width, height), (E,) float64, in pycocotools' arithmetic."""
    overlap = _box_overlaps(first, second)
    union = first[:, 2] * first[:, 3] + second[:, 2] * second[:, 3] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=overlap > 0)


def _box_overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    widths = np.minimum(first[:, 0] + first[:, 2], second[:, 0] + second[:, 2])
    widths -= np.maximum(first[:, 0], second[:, 0])
    heights = np.minimum(first[:, 1] + first[:, 3], second[:, 1] + second[:, 3])
    heights -= np.maximum(first[:, 1], second[:, 1])
    return np.where((widths > 0) & (heights > 0), widths * heights, 0.0)


def mask_ious(
    first: Sequence[dict[str, Any]] | Mapping[int, dict[str, Any]],
    second: Sequence[dict[str, Any]] | Mapping[int, dict[str, Any]],
    rows: np.ndarray,
    columns: np.ndarray,
) -> np.ndarray:
    """IoU of the masks `first[rows]` and `second[columns]`, (E,) float64.

    Rows that share all their columns are compared in one call, so sort by row.
    """
    ious = np.empty(len(rows))
    for pairs, own_rows, own_columns in _blocks(rows, columns):
        block = mask_utils.iou(
            [first[row] for row in own_rows],
            [second[column] for column in own_columns],
            [0] * len(own_columns),
        )
        ious[pairs] = np.asarray(block).reshape(-1)
    return ious


def _blocks(rows: np.ndarray, columns: np.ndarray) -> list[tuple[np.ndarray, list[int], list[int]]]:
    """Groups of pairs that are all rows times all columns: (pairs, rows, columns)."""
    if len(rows) == 0:
        return []
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    row_list, column_list = rows[starts].tolist(), columns.tolist()
    bounds = [*starts.tolist(), len(rows)]
    groups: dict[tuple[int, ...], tuple[list[int], list[int]]] = {}
    for position, row in enumerate(row_list):
        start, stop = bounds[position], bounds[position + 1]
        members, firsts = groups.setdefault(tuple(column_list[start:stop]), ([], []))
        members.append(row)
        firsts.append(start)
    return [
        ((np.array(firsts)[:, None] + np.arange(len(key))).reshape(-1), members, list(key))
        for key, (members, firsts) in groups.items()
    ]
