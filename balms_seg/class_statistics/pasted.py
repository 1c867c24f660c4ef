"""Counts of a training set into whose images copy-paste adds instances. K: classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from balms_seg.class_statistics.pasted_counts import PastedCounts, PastesPerImage
from balms_seg.class_statistics.statistics import ClassStatistics


def with_pasted(
    statistics: ClassStatistics,
    per_image: PastesPerImage | None,
    num_images: int,
    *,
    repeat_factors: np.ndarray | None = None,
) -> ClassStatistics:
    """Statistics whose prior counts hold what is pasted, in expectation.

    Args:
        statistics: of the annotations.
        per_image: as `expected_pastes` gives it; None: nothing is pasted.
        num_images: that are trained on, those without an object included.
        repeat_factors: (num_images,) those of the statistics' `sampled_counts`, if it has any.

    Raises:
        ValueError: there are sampled counts, and no repeat factors; or what is pasted is of
            another number of classes, negative or nan.
    """
    if per_image is None:
        return statistics
    if len(per_image.instances) != statistics.num_classes:
        raise ValueError(
            f"Expected pastes of the {statistics.num_classes} classes of the statistics, but got "
            f"{len(per_image.instances)}; give expected_pastes the same number of classes."
        )
    drawn = statistics.sampled_counts
    if drawn is not None:
        if repeat_factors is None:
            raise ValueError(
                "The statistics count what the sampler draws; give with_pasted the same "
                "repeat_factors, or pasted instances would be missing among the draws."
            )
        drawn = drawn + np.sum(repeat_factors) * per_image.instances
    pasted = PastedCounts(
        instances=num_images * per_image.instances,
        images=(num_images - statistics.image_counts) * per_image.images,
        num_images=(num_images - statistics.num_images) * per_image.any_class,
    )
    return replace(statistics, sampled_counts=drawn, pasted=pasted)
