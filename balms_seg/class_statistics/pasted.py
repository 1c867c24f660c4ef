"""Counts of a training set into whose images copy-paste adds instances. K: classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from balms_seg.class_statistics.statistics import ClassStatistics


class PastesPerImage(NamedTuple):
    """What an image gets, in expectation.

    Attributes:
        instances: (K,) float64 instances of each class.
        images: (K,) float64 probability that it gets one of the class.
        any_class: probability that it gets one at all.
    """

    instances: np.ndarray
    images: np.ndarray
    any_class: float


@dataclass(frozen=True, eq=False)
class PastedCounts:
    """What is added to a training set where every image is drawn once, in expectation.

    Attributes:
        instances: (K,) float64.
        images: (K,) float64 images that show the class by a pasted instance alone.
        num_images: images that show an instance by pasting alone.
    """

    instances: np.ndarray
    images: np.ndarray
    num_images: float = 0.0


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
        ValueError: there are sampled counts, and no repeat factors.
    """
    if per_image is None:
        return statistics
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
