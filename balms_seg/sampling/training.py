"""Every image once an epoch, in a new order each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from balms_seg.sampling.registry import SAMPLER_REGISTRY
from balms_seg.sampling.streams import Block, IndexStream


@SAMPLER_REGISTRY.register()
class TrainingSampler(IndexStream):
    """Permutations of all images, one after the other.

    The same seed gives the stream of detectron2's class of this name.

    Args:
        size: number of images.
        seed: seed of the stream, the same on all ranks.
        shuffle: False gives every epoch in data set order.
    """

    def __init__(self, size: int, *, seed: int, shuffle: bool = True) -> None:
        super().__init__(size, seed=seed)
        self._shuffle = shuffle

    @classmethod
    def from_config(
        cls, cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int, seed: int
    ) -> TrainingSampler:
        """Build from the data set's size alone."""
        return cls(len(dataset_dicts), seed=seed)

    @classmethod
    def expected_repeats(
        cls, cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int
    ) -> np.ndarray:
        """Ones: every image once an epoch."""
        return np.ones(len(dataset_dicts))

    def draw_block(self, generator: torch.Generator) -> Block:
        """One permutation of all images."""
        if not self._shuffle:
            return Block(np.arange(self.size))
        return Block(torch.randperm(self.size, generator=generator).numpy())
