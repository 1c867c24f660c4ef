"""Square-root sampling: half-way between every image alike and every class alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from balms_seg.sampling.class_balanced import (
    ClassBalancedTrainingSampler,
    compute_class_balanced_factors,
)
from balms_seg.sampling.registry import SAMPLER_REGISTRY


@SAMPLER_REGISTRY.register()
class SquareRootTrainingSampler(ClassBalancedTrainingSampler):
    """Draws image i in proportion to the maximum over its classes of f(c)^(-1/2).

    For images of one class each, classes then come in proportion to the root of their images.

    Source: Kang et al. 2020 (arXiv 1910.09217), square-root sampling.
    """

    @classmethod
    def expected_repeats(
        cls, cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int
    ) -> np.ndarray:
        """(N,) image repeat factors max f(c)^(-1/2)."""
        return np.sqrt(compute_class_balanced_factors(dataset_dicts, num_classes))
