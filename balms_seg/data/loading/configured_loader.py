"""The training loader that a configuration asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.utils import comm

from balms_seg.data.images.image_sets import EVALUATOR_TYPE as IMAGE_EVALUATOR_TYPE
from balms_seg.data.images.labelled_images import image_classes, load_image_dicts
from balms_seg.data.instances.builtin import Records
from balms_seg.data.instances.copy_paste import CopyPasteMapper
from balms_seg.data.instances.dataset_dicts import DatasetDicts
from balms_seg.data.instances.mapper import build_mapper
from balms_seg.data.loading.image_loader import build_image_train_loader
from balms_seg.data.loading.keyed_loader import KeyedLoader
from balms_seg.data.loading.mapped_dataset import KeyedMapDataset
from balms_seg.data.loading.train_loader import TrainLoader
from balms_seg.data.loading.unread_keys import warn_of_unread_keys
from balms_seg.data.training_set import are_labelled, load_instance_dicts, require_names
from balms_seg.registered_names import require_registered
from balms_seg.sampling import build_index_stream, check_batch_size
from balms_seg.wording import counted

logger = logging.getLogger(__name__)


def build_train_loader(
    cfg: Any,
    mapper: Callable[[dict], dict | None] | None = None,
    *,
    dataset_dicts: Records | None = None,
    seed: int | None = None,
    start_method: str | None = None,
) -> KeyedLoader:
    """The training loader of a configuration.

    Reads `DATALOADER.SAMPLER_TRAIN` and what that sampler reads, `DATALOADER.NUM_WORKERS`,
    `DATALOADER.ASPECT_RATIO_GROUPING`, `INPUT.COPY_PASTE`, `SOLVER.IMS_PER_BATCH` and `SEED`. In
    another loop than `LongTailedTrainer`'s it warns of keys that only this one reads, and of
    `DATASETS.TEST` that are not registered.

    Args:
        cfg: detectron2 configuration.
        mapper: data set dict -> model input, or None to drop an image; by default the
            configuration's own. It may draw from numpy's, Python's and torch's global generators.
        dataset_dicts: training images, of annotated instances or with one label each; by default
            those of `DATASETS.TRAIN`.
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
        warn_of_unread_keys(cfg)
        _warn_of_unregistered(cfg.DATASETS.TEST)
        dataset_dicts = _training_dicts(cfg)
    is_labelled = are_labelled(dataset_dicts)
    node = cfg.MODEL.IMAGE_CLASSIFIER if is_labelled else cfg.MODEL.ROI_HEADS
    stream = build_index_stream(cfg, dataset_dicts, num_classes=node.NUM_CLASSES, seed=seed)
    logger.info(
        "%s draws batches of %d out of %s.",
        cfg.DATALOADER.SAMPLER_TRAIN,
        cfg.SOLVER.IMS_PER_BATCH,
        counted(len(dataset_dicts), "image"),
    )
    if is_labelled:
        return build_image_train_loader(
            cfg, list(dataset_dicts), stream, seed=seed, start_method=start_method
        )
    # A configuration of plain detectron2 has no such key.
    pastes = "COPY_PASTE" in cfg.INPUT and cfg.INPUT.COPY_PASTE.PROBABILITY > 0
    if mapper is None:
        mapper = build_mapper(cfg)
        if pastes:
            mapper = CopyPasteMapper.of(cfg, mapper, dataset_dicts, node.NUM_CLASSES)
    elif pastes and not isinstance(mapper, CopyPasteMapper):
        logger.warning(
            "INPUT.COPY_PASTE.PROBABILITY is %g, but your mapper is taken as it is. If it pastes "
            "nothing, set the key to 0, since LongTailedTrainer counts what would be pasted, or "
            "give CopyPasteMapper.of(cfg, mapper, dataset_dicts, %d).",
            cfg.INPUT.COPY_PASTE.PROBABILITY,
            node.NUM_CLASSES,
        )
    groups = aspect_ratio_groups(dataset_dicts) if cfg.DATALOADER.ASPECT_RATIO_GROUPING else None
    return TrainLoader(
        KeyedMapDataset(dataset_dicts, mapper),
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


def _warn_of_unregistered(test_sets: Sequence[str]) -> None:
    """In a script nothing else looks at them before the training is over."""
    for name in test_sets:
        try:
            require_registered(name)
        except KeyError as error:
            logger.warning(
                "DATASETS.TEST cannot be evaluated as it is, which ends in an error once the "
                "training is over: %s",
                error.args[0],
            )


def _training_dicts(cfg: Any) -> Records:
    names = cfg.DATASETS.TRAIN
    require_names(names)
    if MetadataCatalog.get(names[0]).get("evaluator_type") == IMAGE_EVALUATOR_TYPE:
        return load_image_dicts(names, image_classes(cfg))
    dicts, _ = load_instance_dicts(
        names,
        filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        with_masks=cfg.MODEL.MASK_ON,
    )
    return dicts
