"""The loader of meta batches: images drawn class-balanced, on a stream of their own."""

from __future__ import annotations

from typing import Any

from detectron2.utils import comm

from balms_seg.data.loading.configured_loader import build_train_loader
from balms_seg.data.loading.keyed_loader import KeyedLoader
from balms_seg.data.training_set import TrainingSet
from balms_seg.sampling import position_seed


def build_meta_loader(cfg: Any, meta_set: TrainingSet) -> KeyedLoader:
    """Batches of `META.BATCH_SIZE` images of the meta set, by `ClassBalancedTrainingSampler`.

    Source: Ren et al. 2020 (arXiv 2007.10740), supplement B.2.

    Args:
        cfg: resolved configuration with `SEED` >= 0.
        meta_set: of `META.DATASET`, or the training set.

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
    seed = position_seed(cfg.SEED, 0, "meta loader") % 2**31
    loader = build_train_loader(cfg, dataset_dicts=meta_set.dicts, seed=seed)
    loader.follows_trainer = False  # not every iteration has a meta batch
    return loader


def _meta_config(cfg: Any) -> Any:
    """The configuration as the training loader would have to read it to draw meta batches."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.COPY_PASTE.PROBABILITY = 0.0
    cfg.DATALOADER.SAMPLER_TRAIN = "ClassBalancedTrainingSampler"
    cfg.SOLVER.IMS_PER_BATCH = cfg.META.BATCH_SIZE or cfg.SOLVER.IMS_PER_BATCH
    return cfg
