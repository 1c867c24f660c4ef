"""Counts detections that a file holds more than once."""

from __future__ import annotations

import numpy as np

from balms_seg.evaluation.lvis.detection_table import DetectionTable, MaskColumn


def count_copies(table: DetectionTable) -> int:
    """How many of n detections are exact copies of others, beyond one of each."""
    return int((np.diff(np.sort(_fingerprints(table))) == 0).sum())


def _fingerprints(table: DetectionTable) -> np.ndarray:
    """A number of each detection, (n,) uint64, that different ones share by chance only."""
    columns = [table.images, table.classes, table.scores, *table.boxes.T]
    prints = np.zeros(len(table), np.uint64)
    for column in columns:
        prints = _mixed(prints, np.ascontiguousarray(column, np.float64).view(np.uint64))
    if table.masks.lengths.any():
        hashes = map(hash, _texts(table.masks))
        prints = _mixed(prints, np.fromiter(hashes, np.int64, len(table)).view(np.uint64))
    return prints


def _mixed(prints: np.ndarray, values: np.ndarray) -> np.ndarray:
    mixed = (prints ^ values) * np.uint64(0x9E3779B97F4A7C15)
    return mixed ^ (mixed >> np.uint64(29))


def _texts(masks: MaskColumn) -> list[bytes]:
    ends = masks.starts + masks.lengths
    return [
        masks.characters[start:end]
        for start, end in zip(masks.starts.tolist(), ends.tolist(), strict=True)
    ]
