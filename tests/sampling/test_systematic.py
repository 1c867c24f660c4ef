"""Systematic sampling, exactly: its counts are a step function of the offset."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balms_seg.sampling.systematic import systematic_counts


def _intervals(probabilities: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Middles and lengths of the intervals of the offset on which the counts are constant."""
    steps = np.cumsum(probabilities) / probabilities.sum() * count % 1
    edges = np.unique(np.concatenate([[0.0, 1.0], steps]))
    return (edges[1:] + edges[:-1]) / 2, np.diff(edges)


@pytest.mark.parametrize("count", [1, 7, 64])
def test_expectation_is_exact_and_variance_that_of_rounding(count: int) -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.full(23, 0.7))
    offsets, lengths = _intervals(probabilities, count)
    counts = np.stack([systematic_counts(probabilities, count, offset) for offset in offsets])
    expected = count * probabilities
    np.testing.assert_allclose(lengths @ counts, expected, rtol=0, atol=1e-12)
    fraction = expected % 1
    variance = lengths @ (counts - expected) ** 2
    np.testing.assert_allclose(variance, fraction * (1 - fraction), rtol=0, atol=1e-12)
    assert (variance < count * probabilities * (1 - probabilities)).mean() > 0.9 or count == 1


@settings(max_examples=100, deadline=None)
@given(
    rates=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40),
    count=st.integers(1, 200),
    offset=st.floats(0, 1, exclude_max=True),
)
def test_no_draw_is_lost_and_counts_are_rounded(
    rates: list[float], count: int, offset: float
) -> None:
    probabilities = np.array(rates) / np.sum(rates)
    counts = systematic_counts(probabilities, count, offset)
    assert counts.sum() == count
    assert counts.min() >= 0
    assert (np.abs(counts - count * probabilities) < 1 + 1e-9).all()


@pytest.mark.parametrize("offset", [0.0, np.nextafter(1.0, 0.0)])
def test_extreme_offsets_keep_every_tick(offset: float) -> None:
    for size in (3, 10, 49, 1000):
        counts = systematic_counts(np.full(size, 1 / size), size, offset)
        assert counts.sum() == size
        assert counts.min() >= 0
        assert counts.max() <= 2
