"""Loaders of image classification: from memory, batch by batch, or through data workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetFromList
from detectron2.utils import comm
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from balms_seg.data.images.feature_files import holds_features, load_features
from balms_seg.data.images.image_augmentation import ImageMapper, build_batch_augmentation
from balms_seg.data.images.image_memory import load_pixels
from balms_seg.data.images.label_mixing import LabelMixing
from balms_seg.data.images.labelled_images import evaluation_classes, load_labelled_images
from balms_seg.data.instances.builtin import Load, load_dataset_dicts
from balms_seg.data.loading.keyed_loader import KeyedLoader
from balms_seg.data.loading.mapped_dataset import KeyedMapDataset
from balms_seg.data.loading.train_loader import TrainLoader
from balms_seg.device_copies import sent
from balms_seg.image_batch import ImageBatch
from balms_seg.sampling import Draw, IndexStream
from balms_seg.stop_signals import leave_signals_to_parent

Augmentation = Callable[[Tensor, int, np.ndarray], Tensor]


class MemoryLoader(KeyedLoader):
    """Infinite iterable of batches cut from a tensor of images and augmented as batches.

    Args:
        images: (N, 3, H, W) uint8, or (N, D) features, on the device where batches are made.
        labels: (N,) int64.
        stream: index stream over the N images.
        batch_size: images of a global batch, over all ranks.
        seed: the run's seed.
        augment: of a batch's images; None: nothing.
        mix: of a batch's images and labels; None: nothing.
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
        mix: LabelMixing | None = None,
    ) -> None:
        super().__init__(stream, batch_size, seed=seed)
        self._images, self._labels = images, labels.to(images.device)
        self._augment, self._mix = augment, mix

    def __iter__(self) -> Iterator[ImageBatch]:
        """Batches from the first one not consumed on; ends an earlier iteration."""
        self.follow_trainer()
        for draws in self._batches:
            batch = self._make_batch(draws)
            self._batches.mark_consumed()
            yield batch

    def _make_batch(self, draws: list[Draw]) -> ImageBatch:
        indices, positions, probabilities = zip(*draws, strict=True)
        chosen = torch.tensor(indices)
        on_device = sent(chosen, self._images.device)
        images = self._images[on_device]
        if self._augment is not None:
            images = self._augment(images, self.seed, np.array(positions))
        batch = ImageBatch(
            images=images,
            labels=self._labels[on_device],
            positions=torch.tensor(positions),
            dataset_indices=chosen,
            draw_probabilities=torch.tensor(probabilities, dtype=torch.float64),
        )
        return batch if self._mix is None else self._mix(batch, self.seed)


class ImageTestLoader:
    """This rank's share of a test set, once, in order; the shares are contiguous."""

    def __init__(
        self,
        load: Callable[[list[Tensor]], Iterable[Tensor]],
        labels: Tensor,
        keys: Sequence[str],
        batch_size: int,
    ) -> None:
        """Share out the set.

        Args:
            load: takes batches of (B,) data set indices, yields their (B, 3, H, W) images.
            labels: (N,) int64.
            keys: N identities of images.
            batch_size: images of a batch; the last one has fewer.
        """
        share = math.ceil(len(labels) / comm.get_world_size())
        first = min(share * comm.get_rank(), len(labels))
        own = torch.arange(first, min(first + share, len(labels)))
        self._batches = list(own.split(batch_size)) if len(own) else []
        self._load, self._labels, self._keys = load, labels, keys

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[ImageBatch]:
        for indices, images in zip(self._batches, self._load(self._batches), strict=True):
            yield ImageBatch(
                images=images,
                labels=self._labels[indices],
                positions=indices,
                dataset_indices=indices,
                draw_probabilities=torch.full((len(indices),), math.nan, dtype=torch.float64),
                keys=tuple(self._keys[index] for index in indices.tolist()),
            )


class _MappedImages(Dataset):
    """Test images by index, for data workers."""

    def __init__(self, records: list[dict], mapper: ImageMapper) -> None:
        self._records = DatasetFromList(records, copy=False, serialize=True)
        self._mapper = mapper

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Tensor:
        record = self._records[int(index)]
        try:
            mapped = self._mapper(record)
            assert mapped is not None  # only training images may be skipped
            return mapped["image"]
        except OSError as error:
            raise OSError(f"Cannot read test image {record['file_name']} ({error}).") from error


def build_image_train_loader(
    cfg: Any,
    dataset_dicts: list[dict],
    stream: IndexStream,
    *,
    seed: int,
    start_method: str | None = None,
) -> KeyedLoader:
    """The training loader of an image classifier over the index stream of its data set."""
    options = cfg.INPUT.IMAGES
    device = torch.device(options.MEMORY_DEVICE or cfg.MODEL.DEVICE)
    if holds_features(dataset_dicts):
        return MemoryLoader(
            load_features(dataset_dicts).to(device),
            labels_of(dataset_dicts),
            stream,
            cfg.SOLVER.IMS_PER_BATCH,
            seed=seed,
        )
    mix = LabelMixing(mixup=options.MIXUP, cutmix=options.CUTMIX)
    if options.IN_MEMORY:
        return MemoryLoader(
            load_pixels(
                dataset_dicts,
                options.SIZE,
                unreadable=options.UNREADABLE,
                pixel_range=cfg.INPUT.PIXEL_RANGE,
                training=True,
            ).to(device),
            labels_of(dataset_dicts),
            stream,
            cfg.SOLVER.IMS_PER_BATCH,
            seed=seed,
            augment=build_batch_augmentation(cfg),
            mix=mix,
        )
    return TrainLoader(
        KeyedMapDataset(dataset_dicts, ImageMapper(cfg, training=True)),
        stream,
        cfg.SOLVER.IMS_PER_BATCH,
        seed=seed,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        start_method=start_method,
        collate=partial(_collate_images, mix),
    )


def build_image_test_loader(
    cfg: Any, dataset_name: str, *, load: Load = load_dataset_dicts
) -> ImageTestLoader:
    """The test loader of a registered image classification set, with the labels of the run."""
    classes = evaluation_classes(cfg, dataset_name, load=load)
    return build_loader_in_order(cfg, load_labelled_images(dataset_name, classes, load=load))


def build_loader_in_order(
    cfg: Any, records: list[dict], *, training: bool = False
) -> ImageTestLoader:
    """Every image once, as evaluation sees it.

    Images in memory are decoded, and features read, at the first use.

    Args:
        cfg: a checked configuration.
        records: of the images, with the labels of the run.
        training: they are trained on: those in memory are the training loader's.
    """
    labels, batch_size = labels_of(records), cfg.TEST.IMAGES_PER_BATCH
    keys = [record["key"] for record in records]
    if cfg.INPUT.IMAGES.IN_MEMORY or holds_features(records):
        read: Callable[[], Tensor] = (
            partial(load_features, records)
            if holds_features(records)
            else partial(
                load_pixels,
                records,
                cfg.INPUT.IMAGES.SIZE,
                unreadable=cfg.INPUT.IMAGES.UNREADABLE if training else "stop",
                pixel_range=cfg.INPUT.PIXEL_RANGE,
                training=training,
            )
        )
        decoded = cache(read)
        return ImageTestLoader(
            lambda batches: map(decoded().__getitem__, batches), labels, keys, batch_size
        )
    mapped = _MappedImages(records, ImageMapper(cfg, training=False))

    def decode(batches: list[Tensor]) -> Iterable[Tensor]:
        return DataLoader(
            mapped,
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            worker_init_fn=leave_signals_to_parent,
        )

    return ImageTestLoader(decode, labels, keys, batch_size)


def labels_of(records: list[dict]) -> Tensor:
    """(N,) int64 labels."""
    return torch.tensor([record["label"] for record in records], dtype=torch.int64)


def _collate_images(mix: LabelMixing, samples: list[dict], seed: int) -> ImageBatch:
    batch = ImageBatch(
        images=torch.stack([sample["image"] for sample in samples]),
        labels=torch.tensor([sample["label"] for sample in samples]),
        positions=torch.tensor([sample["stream_position"] for sample in samples]),
        dataset_indices=torch.tensor([sample["dataset_index"] for sample in samples]),
        draw_probabilities=torch.tensor(
            [sample.get("draw_probability", math.nan) for sample in samples], dtype=torch.float64
        ),
    )
    return mix(batch, seed)
