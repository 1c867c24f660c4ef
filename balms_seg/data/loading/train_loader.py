"""The training loader: every sample a function of (seed, stream position)."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from balms_seg.data.loading.keyed_loader import KeyedLoader
from balms_seg.data.loading.mapped_dataset import KeyedMapDataset, MappedElement
from balms_seg.sampling import (
    Draw,
    GlobalBatchSampler,
    IndexStream,
)
from balms_seg.stop_signals import held_back, leave_signals_to_parent

logger = logging.getLogger(__name__)

PREFETCH_FACTOR = 2  # batches that each data worker works ahead


class TrainLoader(KeyedLoader):
    """Infinite iterable of this rank's share of the global batches.

    Indices are drawn in the main process of each rank; data workers only map. So batches depend
    neither on the number of workers nor on their timing, and the union over ranks is the
    one-process stream.

    Args:
        dataset: maps (seed, draw) to a model input.
        stream: index stream over the data set.
        batch_size: images of a global batch, over all ranks.
        seed: the run's seed.
        groups: (N,) int group of each image; a batch stays within one. None: no groups.
        num_workers: data worker processes of this rank; 0 maps in the main process.
        start_method: "fork", "spawn" or "forkserver"; None takes Python's default.
        collate: model inputs of a batch and the run's seed -> what the model gets; runs in the
            workers. None: the list as it is.

    Raises:
        ValueError: `batch_size` cannot be shared out equally among the ranks, or the workers would
            draw farther ahead than the stream allows.
    """

    def __init__(
        self,
        dataset: KeyedMapDataset,
        stream: IndexStream,
        batch_size: int,
        *,
        seed: int,
        groups: np.ndarray | None = None,
        num_workers: int = 0,
        start_method: str | None = None,
        collate: Callable[[list[dict], int], Any] | None = None,
    ) -> None:
        super().__init__(stream, batch_size, seed=seed, groups=groups)
        self.dataset = dataset
        _check_drawn_ahead(stream, batch_size, self._batches.num_groups, num_workers)
        self._reported: set[int] = set()
        self._start_method = start_method if num_workers > 0 else None
        self._data_loader = DataLoader(
            dataset,
            batch_sampler=_SeededBatches(self._batches, weakref.proxy(self)),
            num_workers=num_workers,
            collate_fn=partial(_collate, collate),
            persistent_workers=num_workers > 0,
            prefetch_factor=PREFETCH_FACTOR if num_workers > 0 else None,
            multiprocessing_context=self._start_method,
            worker_init_fn=leave_signals_to_parent,
            generator=torch.Generator(),  # else the loader draws from torch's global generator
        )

    def __iter__(self) -> Iterator[Any]:
        """Batches from the first one not consumed on; ends an earlier iteration."""
        self.follow_trainer()
        with held_back(self._start_method):
            batches = iter(self._data_loader)  # starts the workers
        for batch, dropped in batches:
            self._report_dropped(dropped)
            self._batches.mark_consumed()
            yield batch

    def _report_dropped(self, dropped: list[int]) -> None:
        for index in dropped:
            if index not in self._reported:
                self._reported.add(index)
                logger.warning(
                    "The mapper dropped %s; another image takes its place each time it is drawn.",
                    self.dataset.describe(index),
                )


class _SeededBatches:
    """Batches of (seed, draw); the seed travels along because workers outlive a resume.

    Args:
        batches: the sampler.
        loader: whose seed it is. A weak reference: in a circle of references, the garbage collector
            closes the queues of the data workers before they are told to end, and each of them
            keeps the process waiting for five seconds.
    """

    def __init__(self, batches: GlobalBatchSampler, loader: KeyedLoader) -> None:
        self._batches, self._loader = batches, loader

    def __iter__(self) -> Iterator[list[tuple[int, Draw]]]:
        for batch in self._batches:
            yield [(self._loader.seed, draw) for draw in batch]


def _check_drawn_ahead(
    stream: IndexStream, batch_size: int, num_groups: int, num_workers: int
) -> None:
    # the prefetched batches, and those that fill up in the other groups
    batches = PREFETCH_FACTOR * num_workers + num_groups - 1
    if stream.max_drawn_ahead is not None and batches * batch_size > stream.max_drawn_ahead:
        raise ValueError(
            f"Expected at most {stream.max_drawn_ahead // batch_size} batches to be drawn ahead of "
            f"training (META.LOOKAHEAD), but {num_workers} data workers may draw {batches}; set "
            f"META.LOOKAHEAD to at least {batches}, or lower DATALOADER.NUM_WORKERS."
        )


def _collate(
    collate: Callable[[list[dict], int], Any] | None, elements: list[MappedElement]
) -> tuple[Any, list[int]]:
    """What the model gets, and the images that the mapper dropped."""
    dropped = [index for element in elements for index in element.dropped]
    samples = [element.output for element in elements]
    return (samples if collate is None else collate(samples, elements[0].seed)), dropped
