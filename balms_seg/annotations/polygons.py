"""Geometry of many polygons at once, in flat arrays.

Symbols: P polygons, C numbers of all of them: x0, y0, x1, y1, ...
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Points closer than this count as one, and points this close to a line as lying on it.
_TOLERANCE_PX = 1e-3
MIN_NUMBERS = 6


def has_extent(coordinates: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(P,) bool: whether a polygon has three points that do not lie on one line.

    Args:
        coordinates: (C,) float64.
        offsets: (P + 1,) int64, where each polygon begins and ends.
    """
    lengths = np.diff(offsets)
    result = (lengths >= MIN_NUMBERS) & (lengths % 2 == 0)
    # Nearly all of them say so with their first three points.
    first = offsets[:-1][result]
    points = coordinates[first[:, None] + np.arange(6)] if len(first) else np.zeros((0, 6))
    deltas = points[:, 2:] - points[:, [0, 1, 0, 1]]
    is_clear = _is_off_line(*deltas.T)
    for polygon in np.flatnonzero(result)[~is_clear].tolist():
        own = coordinates[offsets[polygon] : offsets[polygon + 1]]
        result[polygon] = _points_have_extent(own.reshape(-1, 2))
    return result


def _points_have_extent(points: np.ndarray) -> bool:
    deltas = points - points[0]
    away = np.flatnonzero(np.hypot(*deltas.T) > _TOLERANCE_PX)
    if not len(away):
        return False
    dx, dy = deltas[away[0]]
    return bool(_is_off_line(dx, dy, deltas[:, 0], deltas[:, 1]).any())


def _is_off_line(dx: np.ndarray, dy: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether (x, y) is off the line from the origin through (dx, dy), itself off the origin."""
    length = np.hypot(dx, dy)
    return (length > _TOLERANCE_PX) & (np.abs(dx * y - dy * x) > _TOLERANCE_PX * length)


def enclosing_box(polygons: Sequence[np.ndarray]) -> tuple[float, float, float, float]:
    """x, y, width and height of the smallest box around polygons [x0, y0, x1, y1, ...]."""
    xs = np.concatenate([polygon[0::2] for polygon in polygons])
    ys = np.concatenate([polygon[1::2] for polygon in polygons])
    x, y = xs.min(), ys.min()
    return float(x), float(y), float(xs.max() - x), float(ys.max() - y)
