"""From a configuration to its meta step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from balms_seg.config.meta_learning import learned_quantity
from balms_seg.data.loading.meta_loader import build_meta_loader
from balms_seg.distributed import sum_over_ranks
from balms_seg.engine.meta.class_learners import ClassLearner, LearnedRates, LearnedWeights
from balms_seg.engine.meta.meta_batches import BankedBatches, LoadedBatches, MetaBatches
from balms_seg.engine.meta.meta_step import MetaStep
from balms_seg.meta import AdamSettings, FeatureBank, MetaReweighter
from balms_seg.sampling import MetaRepeatFactorTrainingSampler

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from torch import Tensor

    from balms_seg.data.loading.keyed_loader import KeyedLoader
    from balms_seg.data.training_set import TrainingSet
    from balms_seg.engine.run_data import RunData
    from balms_seg.modeling.classifier_rows import ClassifierView


def build_meta_step(
    cfg: CfgNode,
    classifier: ClassifierView,
    optimizer: torch.optim.Optimizer,
    loader: KeyedLoader,
    data: RunData,
) -> MetaStep | None:
    """The meta step that a configuration asks for; None where nothing is learned.

    Args:
        cfg: one that passed `check_meta_training`.
        classifier: of the model; it trains alone.
        optimizer: of the model.
        loader: the training loader; holds the sampler whose rates may be learned.
        data: of the run; has the training set and the meta set.
    """
    if learned_quantity(cfg) == "none":
        return None
    meta_set = data.load_meta_set()
    learner = _build_learner(cfg, classifier, loader, data.training_set.class_names)
    has_samples = torch.from_numpy(meta_set.statistics.instance_counts > 0)
    learner.set_meta_classes(has_samples)  # warns
    return MetaStep(
        learner,
        _build_batches(cfg, classifier, has_samples, meta_set),
        classifier=classifier,
        optimizer=optimizer,
        objective=cfg.META.OBJECTIVE,
        period=cfg.META.PERIOD,
    )


def _build_batches(
    cfg: CfgNode, classifier: ClassifierView, has_samples: Tensor, meta_set: TrainingSet
) -> MetaBatches:
    if cfg.META.SOURCE == "loader":
        return LoadedBatches(build_meta_loader(cfg, meta_set), has_samples)
    device = classifier.layer.weight.device
    # As many rows, and as many of them foreground, as a batch of images would give at most.
    num_images = cfg.META.BATCH_SIZE or cfg.SOLVER.IMS_PER_BATCH
    num_rows = num_foreground = num_images
    if classifier.has_background:
        num_rows = num_images * cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE
        num_foreground = max(1, round(num_rows * cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION))
    bank = FeatureBank(
        len(has_samples),
        classifier.layer.in_features,
        per_class=cfg.META.BANK.PER_CLASS,
        background=cfg.META.BANK.BACKGROUND if classifier.has_background else 0,
        max_memory_mb=cfg.META.BANK.MAX_MEMORY_MB,
        device=cfg.META.BANK.DEVICE or device,
    )
    return BankedBatches(
        bank,
        num_foreground=num_foreground,
        num_background=num_rows - num_foreground,
        seed=cfg.SEED,
        device=device,
    )


def _build_learner(
    cfg: CfgNode, classifier: ClassifierView, loader: KeyedLoader, names: Sequence[str]
) -> ClassLearner:
    if learned_quantity(cfg) == "rates":
        assert isinstance(loader.stream, MetaRepeatFactorTrainingSampler)
        return LearnedRates(loader.stream, names)
    reweighter = MetaReweighter(
        len(names),
        AdamSettings(cfg.META.LR, tuple(cfg.META.BETAS), cfg.META.WEIGHT_DECAY),
        normalise=cfg.META.NORMALISE,
        sum_over_ranks=sum_over_ranks,
        class_names=names,
    )
    return LearnedWeights(reweighter.to(classifier.layer.weight.device))
