"""How a class's objects spread over the image: the box-counting dimension of their centres."""

from __future__ import annotations

import numpy as np

LARGEST_GRID = 64
_FEWEST_OBJECTS = 4


def fractal_dimensions(
    centers: np.ndarray, classes: np.ndarray, num_classes: int, *, largest_grid: int = LARGEST_GRID
) -> np.ndarray:
    """Slope of log(occupied cells) over log(cells a side), per class; at least 1.

    A class with n objects is fitted on the grids of up to n cells; one with fewer than four objects
    gets 1.

    Args:
        centers: (m, 2) centres of the objects' boxes as fractions of width and height, in [0, 1).
        classes: (m,) int64 in [0, num_classes).
        num_classes: K.
        largest_grid: cells a side of the finest grid.

    Returns:
        (K,) float64, 1 for a line of objects and 2 for objects everywhere.

    Raises:
        ValueError: a centre lies outside the image.

    Source: Alexandridis et al. 2025, FRACAL; kostas1515/FRACAL: calculate_fractality.py, variant
    box_dim.
    """
    if len(centers) and not (centers.min() >= 0 and centers.max() < 1):
        raise ValueError(
            f"Expected centres in [0, 1) of the image, but got {centers.min():g} to "
            f"{centers.max():g}; divide by the image's width and height."
        )
    totals = np.bincount(classes, minlength=num_classes)
    sides = np.arange(1, largest_grid + 1)
    occupied = np.zeros((len(sides), num_classes))
    for row, side in enumerate(sides):
        column, line = (centers * side).astype(np.int64).T
        cells = np.unique((classes * side + line) * side + column)
        occupied[row] = np.bincount(cells // side**2, minlength=num_classes)
    dimensions = np.ones(num_classes)
    for index in np.flatnonzero(totals >= _FEWEST_OBJECTS):
        used = sides**2 <= totals[index]
        slope = np.polyfit(np.log(sides[used]), np.log(occupied[used, index]), 1)[0]
        dimensions[index] = max(slope, 1.0)
    return dimensions
