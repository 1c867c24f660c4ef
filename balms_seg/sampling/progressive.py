"""Progressively balanced sampling: from every image alike to every class alike over the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from balms_seg.sampling.class_balanced import compute_class_balanced_factors
from balms_seg.sampling.registry import SAMPLER_REGISTRY
from balms_seg.sampling.repeat_factor import RepeatFactorTrainingSampler


@SAMPLER_REGISTRY.register()
class ProgressivelyBalancedTrainingSampler(RepeatFactorTrainingSampler):
    """Epoch e of E draws with factors 1 + (b_i - 1) e / (E - 1), b_i those of balanced classes.

    b_i is the maximum over the image's classes of 1 / f(c), divided by the mean, so that every
    epoch is about as long as the data set. E is as many epochs as the run has images for; what is
    beyond draws as the last. A run that is resumed with another length goes on along the other
    one's ramp, as its learning rate does.

    Source: Kang et al. 2020 (arXiv 1910.09217), progressively-balanced sampling.
    """

    def __init__(
        self, balanced_factors: np.ndarray | Sequence[float], *, seed: int, num_epochs: int
    ) -> None:
        """Begin with every image alike.

        Args:
            balanced_factors: (N,) b_i.
            seed: seed of the stream, the same on all ranks.
            num_epochs: E.
        """
        super().__init__(balanced_factors, seed=seed)
        self._num_epochs = num_epochs

    @classmethod
    def from_config(
        cls, cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int, seed: int
    ) -> ProgressivelyBalancedTrainingSampler:
        """Build for a run of `SOLVER.MAX_ITER` batches of `SOLVER.IMS_PER_BATCH` images."""
        factors = compute_class_balanced_factors(dataset_dicts, num_classes)
        num_images = cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH
        num_epochs = math.ceil(num_images / len(dataset_dicts))
        return cls(factors / factors.mean(), seed=seed, num_epochs=num_epochs)

    @classmethod
    def expected_repeats(
        cls, cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int
    ) -> np.ndarray:
        """(N,) the mean over the run, half-way between both ends."""
        factors = compute_class_balanced_factors(dataset_dicts, num_classes)
        return (1 + factors / factors.mean()) / 2

    def epoch_factors(self) -> np.ndarray:
        """(N,) factors of the epoch that is drawn next."""
        share = min(self._block_number / max(self._num_epochs - 1, 1), 1.0)
        return 1 + (self._factors - 1) * share
