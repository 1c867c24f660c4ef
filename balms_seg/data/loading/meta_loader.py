"""The loader of meta batches: images drawn class-balanced, on a stream of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from detectron2.utils import comm

from balms_seg.class_statistics import ClassStatistics
from balms_seg.data.images.labelled_images import image_classes
from balms_seg.data.loading.keyed_loader import KeyedLoader
from balms_seg.data.loading.train_loader import build_train_loader
from balms_seg.data.training_set import get_training_dicts
from balms_seg.job import classifies_images, num_classes
from balms_seg.sampling import position_seed


def build_meta_loader(cfg: Any) -> KeyedLoader:
    """Batches of `META.BATCH_SIZE` images of `META.DATASET`, by `ClassBalancedTrainingSampler`.

    Source: Ren et al. 2020 (arXiv 2007.10740), supplement B.2.

    Args:
        cfg: resolved configuration with `SEED` >= 0.

    Raises:
        ValueError: the batch cannot be shared out equally among the processes.
    """
    cfg = _meta_config(cfg)
    num_ranks = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH % num_ranks:
        raise ValueError(
            f"Expected META.BATCH_SIZE to be a multiple of the number of processes ({num_ranks}), "
            f"but got {cfg.SOLVER.IMS_PER_BATCH}; change it, or set it to 0."
        )
    return build_train_loader(cfg, seed=position_seed(cfg.SEED, 0, "meta loader") % 2**31)


def meta_instance_counts(cfg: Any) -> np.ndarray:
    """(K,) instances of each class in the meta set, crowds left out."""
    dicts = get_training_dicts(_meta_config(cfg))
    statistics = ClassStatistics.from_dataset_dicts(dicts, num_classes(cfg))
    return statistics.instance_counts


def _meta_config(cfg: Any) -> Any:
    """The configuration as the training loader would have to read it to draw meta batches."""
    cfg = cfg.clone()
    cfg.defrost()
    if classifies_images(cfg):
        cfg.DATASETS.CLASSES = image_classes(cfg)  # the meta set may have them in another order
    cfg.DATALOADER.SAMPLER_TRAIN = "ClassBalancedTrainingSampler"
    cfg.SOLVER.IMS_PER_BATCH = cfg.META.BATCH_SIZE or cfg.SOLVER.IMS_PER_BATCH
    cfg.DATASETS.TRAIN = (cfg.META.DATASET,) if cfg.META.DATASET else cfg.DATASETS.TRAIN
    return cfg
