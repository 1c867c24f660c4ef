"""The training loader: every sample a function of (seed, stream position)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm
from torch.utils.data import DataLoader

from balms_seg.data.instances.dataset_dicts import DatasetDicts
from balms_seg.data.instances.mapper import build_mapper
from balms_seg.data.loading.keyed_loader import KeyedLoader
from balms_seg.data.loading.mapped_dataset import KeyedMapDataset, MappedElement
from balms_seg.job import classifies_images, num_classes
from balms_seg.sampling import (
    Draw,
    GlobalBatchSampler,
    IndexStream,
    build_index_stream,
    check_batch_size,
)
from balms_seg.stop_signals import leave_signals_to_parent

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
        self._data_loader = DataLoader(
            dataset,
            batch_sampler=_SeededBatches(self._batches, self),
            num_workers=num_workers,
            collate_fn=partial(_collate, collate),
            persistent_workers=num_workers > 0,
            prefetch_factor=PREFETCH_FACTOR if num_workers > 0 else None,
            multiprocessing_context=start_method if num_workers > 0 else None,
            worker_init_fn=leave_signals_to_parent,
            generator=torch.Generator(),  # else the loader draws from torch's global generator
        )

    def __iter__(self) -> Iterator[Any]:
        """Batches from the first one not consumed on; ends an earlier iteration."""
        for batch, dropped in self._data_loader:
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
    """Batches of (seed, draw); the seed travels along because workers outlive a resume."""

    def __init__(self, batches: GlobalBatchSampler, loader: KeyedLoader) -> None:
        self._batches, self._loader = batches, loader

    def __iter__(self) -> Iterator[list[tuple[int, Draw]]]:
        for batch in self._batches:
            yield [(self._loader.seed, draw) for draw in batch]


def build_train_loader(
    cfg: Any,
    mapper: Callable[[dict], dict | None] | None = None,
    *,
    dataset_dicts: list[dict] | None = None,
    seed: int | None = None,
    start_method: str | None = None,
) -> KeyedLoader:
    """The training loader of a configuration.

    Reads `DATALOADER.SAMPLER_TRAIN` and what that sampler reads, `DATALOADER.NUM_WORKERS`,
    `DATALOADER.ASPECT_RATIO_GROUPING`, `SOLVER.IMS_PER_BATCH` and `SEED`.

    Args:
        cfg: detectron2 configuration.
        mapper: data set dict -> model input, or None to drop an image; by default the
            configuration's own. It may draw from numpy's, Python's and torch's global generators.
        dataset_dicts: training images; by default those of `DATASETS.TRAIN`.
        seed: the run's seed, the same on all ranks; by default `SEED`, or where that is negative
            one drawn here and logged.
        start_method: how data workers start; None takes Python's default.

    Returns:
        A loader of this rank's part of each global batch. Every dict also carries
        "stream_position", its position in the global stream.

    Raises:
        ValueError: the batch size is not a multiple of the number of processes, the sampler is
            unknown, or the data set is empty or lacks image sizes for aspect-ratio groups.
    """
    check_batch_size(cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size())
    if seed is None:
        seed = _seed_from_config(cfg)
    if dataset_dicts is None:
        from balms_seg.data import get_training_dicts

        dataset_dicts = get_training_dicts(cfg)
    stream = build_index_stream(cfg, dataset_dicts, num_classes=num_classes(cfg), seed=seed)
    if classifies_images(cfg):
        from balms_seg.data.loading.image_loader import build_image_train_loader

        return build_image_train_loader(
            cfg, dataset_dicts, stream, seed=seed, start_method=start_method
        )
    groups = aspect_ratio_groups(dataset_dicts) if cfg.DATALOADER.ASPECT_RATIO_GROUPING else None
    return TrainLoader(
        KeyedMapDataset(dataset_dicts, build_mapper(cfg) if mapper is None else mapper),
        stream,
        cfg.SOLVER.IMS_PER_BATCH,
        seed=seed,
        groups=groups,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        start_method=start_method,
    )


def aspect_ratio_groups(dataset_dicts: Sequence[dict]) -> np.ndarray:
    """(N,) 0 for images wider than high, else 1, as detectron2 groups them.

    Raises:
        ValueError: an image lacks "width" or "height".
    """
    if isinstance(dataset_dicts, DatasetDicts):
        height, width = dataset_dicts.sizes.T
        return (width <= height).astype(np.int64)
    for index, record in enumerate(dataset_dicts):
        if "width" not in record or "height" not in record:
            raise ValueError(
                f"Expected every image to have 'width' and 'height', but image {index} "
                f"({record.get('file_name', 'no file name')}) lacks them; add them or set "
                "DATALOADER.ASPECT_RATIO_GROUPING False."
            )
    return np.array([int(record["width"] <= record["height"]) for record in dataset_dicts])


def _seed_from_config(cfg: Any) -> int:
    if cfg.SEED >= 0:
        return int(cfg.SEED)
    seed = int(comm.shared_random_seed())
    logger.info("SEED is negative: the training data use the drawn seed %d.", seed)
    return seed


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
