"""Systematic sampling: counts as close to their expectation as whole numbers allow."""

from __future__ import annotations

import numpy as np


def systematic_counts(probabilities: np.ndarray, count: int, offset: float) -> np.ndarray:
    """How often each of N items is drawn by `count` equally spaced ticks on the unit interval.

    Item i owns a stretch of length count * probabilities[i] of [0, count); the ticks stand at
    offset, offset + 1, ... With `offset` uniform on [0, 1) the expected count is exactly
    e = count * probabilities[i], every count is floor(e) or ceil(e), and its variance is
    frac(e) (1 - frac(e)): never more, and mostly far less, than the e (1 - e / count) of
    independent draws. Neighbours in the order of items are drawn together less often than by
    chance, so an order by class or source also evens out classes or sources.

    Args:
        probabilities: (N,) non-negative, of sum 1.
        count: number of draws.
        offset: in [0, 1).

    Returns:
        (N,) int64 of sum `count`.

    Source: Madow and Madow 1944, On the theory of systematic sampling.
    """
    ends = np.cumsum(probabilities)
    ends *= count / ends[-1]
    ticks_before = np.minimum(np.ceil(ends - offset), count).astype(np.int64)
    ticks_before[-1] = count  # rounding must neither add a tick nor lose one
    return np.diff(ticks_before, prepend=0)
