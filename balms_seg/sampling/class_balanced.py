"""Class-balanced sampling: every image as often as its rarest class demands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from balms_seg.sampling.registry import SAMPLER_REGISTRY
from balms_seg.sampling.repeat_factor import (
    RepeatFactorTrainingSampler,
    image_class_pairs,
    max_over_classes,
)


def compute_class_balanced_factors(dataset_dicts: Sequence[dict], num_classes: int) -> np.ndarray:
    """Image repeat factor: the maximum over the image's classes of 1 / f(c).

    Args:
        dataset_dicts: N data set dicts.
        num_classes: K.

    Returns:
        (N,) float64, at least 1; 1 for images without annotations. f(c) is the share of the N
        images that show class c, crowd annotations included, as for the repeat factors.

    Raises:
        ValueError: a class id lies outside [0, K).

    Source: Ren et al. 2020 (arXiv 2007.10740), the meta set's sampling on LVIS.
    """
    images, classes = image_class_pairs(dataset_dicts, num_classes)
    counts = np.bincount(classes, minlength=num_classes)
    class_factors = len(dataset_dicts) / np.maximum(counts, 1)
    return max_over_classes(class_factors, images, classes, len(dataset_dicts))


@SAMPLER_REGISTRY.register()
class ClassBalancedTrainingSampler(RepeatFactorTrainingSampler):
    """Draws image i in proportion to the maximum over its classes of 1 / f(c).

    The factors are divided by their mean, so that an epoch is about as long as the data set; as
    they stand, an epoch of LVIS would be some ten million indices. Images whose factor falls below
    1 then come in some epochs only.
    """

    @classmethod
    def from_config(
        cls, cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int, seed: int
    ) -> ClassBalancedTrainingSampler:
        """Build from the data set's class frequencies; reads no key of its own."""
        factors = cls.expected_repeats(cfg, dataset_dicts, num_classes=num_classes)
        return cls(factors / factors.mean(), seed=seed)

    @classmethod
    def expected_repeats(
        cls, cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int
    ) -> np.ndarray:
        """(N,) image repeat factors max 1 / f(c)."""
        return compute_class_balanced_factors(dataset_dicts, num_classes)
