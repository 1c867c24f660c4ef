"""Loaders of image classification: from memory, batch by batch, or through data workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm
from torch import Tensor

from balms_seg.data.builtin import load_dataset_dicts
from balms_seg.data.image_augmentation import build_batch_augmentation
from balms_seg.data.image_batch import ImageBatch
from balms_seg.data.image_memory import load_pixels
from balms_seg.data.keyed_loader import KeyedLoader
from balms_seg.sampling import Draw, IndexStream

Augmentation = Callable[[Tensor, int, np.ndarray], Tensor]


class MemoryLoader(KeyedLoader):
    """Infinite iterable of batches cut from a tensor of images and augmented as batches.

    Args:
        images: (N, 3, H, W) uint8, on the device where batches are made.
        labels: (N,) int64.
        stream: index stream over the N images.
        batch_size: images of a global batch, over all ranks.
        seed: the run's seed.
        augment: of a batch's images; None: nothing.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        stream: IndexStream,
        batch_size: int,
        *,
        seed: int,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(stream, batch_size, seed=seed)
        self._images, self._labels = images, labels.to(images.device)
        self._augment = augment

    def __iter__(self) -> Iterator[ImageBatch]:
        """Batches from the first one not consumed on; ends an earlier iteration."""
        for draws in self._batches:
            batch = self._make_batch(draws)
            self._batches.mark_consumed()
            yield batch

    def _make_batch(self, draws: list[Draw]) -> ImageBatch:
        indices, positions, probabilities = zip(*draws, strict=True)
        chosen = torch.tensor(indices)
        on_device = chosen.to(self._images.device)
        images = self._images[on_device]
        if self._augment is not None:
            images = self._augment(images, self.seed, np.array(positions))
        return ImageBatch(
            images=images,
            labels=self._labels[on_device],
            positions=torch.tensor(positions),
            dataset_indices=chosen,
            draw_probabilities=torch.tensor(probabilities, dtype=torch.float64),
        )


class MemoryTestLoader:
    """This rank's share of a test set, once, in order; the shares are contiguous."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int) -> None:
        """Batches of so many images, the last one smaller."""
        share = math.ceil(len(labels) / comm.get_world_size())
        first = min(share * comm.get_rank(), len(labels))
        self._indices = torch.arange(first, min(first + share, len(labels)))
        self._images, self._labels, self._batch_size = images, labels, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self._indices) / self._batch_size)

    def __iter__(self) -> Iterator[ImageBatch]:
        for indices in self._indices.split(self._batch_size):
            if len(indices):
                yield ImageBatch(
                    images=self._images[indices],
                    labels=self._labels[indices],
                    positions=indices,
                    dataset_indices=indices,
                    draw_probabilities=torch.full((len(indices),), math.nan, dtype=torch.float64),
                )


def build_image_train_loader(
    cfg: Any, dataset_dicts: list[dict], stream: IndexStream, *, seed: int
) -> KeyedLoader:
    """The training loader of an image classifier over the index stream of its data set."""
    device = torch.device(cfg.INPUT.IMAGES.MEMORY_DEVICE or cfg.MODEL.DEVICE)
    return MemoryLoader(
        load_pixels(dataset_dicts, cfg.INPUT.IMAGES.SIZE).to(device),
        labels_of(dataset_dicts),
        stream,
        cfg.SOLVER.IMS_PER_BATCH,
        seed=seed,
        augment=build_batch_augmentation(cfg),
    )


def build_image_test_loader(cfg: Any, dataset_name: str) -> MemoryTestLoader:
    """The test loader of a registered image classification set."""
    records = load_dataset_dicts(dataset_name)
    images = load_pixels(records, cfg.INPUT.IMAGES.SIZE)
    return MemoryTestLoader(images, labels_of(records), cfg.TEST.IMAGES_PER_BATCH)


def labels_of(records: list[dict]) -> Tensor:
    """(N,) int64 labels."""
    return torch.tensor([record["label"] for record in records], dtype=torch.int64)
