"""Counts of a training set into whose images copy-paste adds instances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from balms_seg.class_statistics.statistics import ClassStatistics


def with_pasted(
    statistics: ClassStatistics,
    per_image: np.ndarray,
    num_images: int,
    *,
    repeat_factors: np.ndarray | None = None,
) -> ClassStatistics:
    """Statistics whose prior counts hold what is pasted, in expectation.

    Args:
        statistics: of the annotations.
        per_image: (K,) instances that an image gets, as `expected_pastes` gives them.
        num_images: that are trained on, those without an object included.
        repeat_factors: (num_images,) those of the statistics' `sampled_counts`, if it has any.
    """
    drawn = statistics.sampled_counts
    if drawn is not None and repeat_factors is not None:
        drawn = drawn + repeat_factors.sum() * per_image
    return replace(statistics, sampled_counts=drawn, pasted_counts=num_images * per_image)
