"""From a configuration to its meta step."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from balms_seg.data import training_classes
from balms_seg.data.meta_loader import build_meta_loader, meta_instance_counts
from balms_seg.engine.class_learners import ClassLearner, LearnedRates, LearnedWeights
from balms_seg.engine.meta_batches import LoadedBatches
from balms_seg.engine.meta_step import MetaStep
from balms_seg.engine.ranks import sum_over_ranks
from balms_seg.meta import MetaReweighter
from balms_seg.meta_settings import learned_quantity

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from torch import nn

    from balms_seg.data.loader import TrainLoader

logger = logging.getLogger(__name__)


def build_meta_step(
    cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer, loader: TrainLoader
) -> MetaStep | None:
    """The meta step that a configuration asks for; None where nothing is learned.

    Args:
        cfg: one that passed `check_meta_training`.
        model: whose box classifier trains alone.
        optimizer: of the model.
        loader: the training loader; holds the sampler whose rates may be learned.
    """
    if learned_quantity(cfg) == "none":
        return None
    learner = _build_learner(cfg, model, loader)
    learner.set_meta_classes(torch.from_numpy(meta_instance_counts(cfg) > 0))
    predictor = model.roi_heads.box_predictor
    return MetaStep(
        learner,
        LoadedBatches(build_meta_loader(cfg)),
        layer=predictor.cls_score,
        method=predictor.method,
        optimizer=optimizer,
        objective=cfg.META.OBJECTIVE,
        period=cfg.META.PERIOD,
    )


def _build_learner(cfg: CfgNode, model: nn.Module, loader: TrainLoader) -> ClassLearner:
    names = training_classes(cfg)
    if learned_quantity(cfg) == "rates":
        return LearnedRates(loader.stream, names)
    reweighter = MetaReweighter(
        len(names),
        lr=cfg.META.LR,
        betas=cfg.META.BETAS,
        weight_decay=cfg.META.WEIGHT_DECAY,
        normalise=cfg.META.NORMALISE,
        sum_over_ranks=sum_over_ranks,
        class_names=names,
    )
    return LearnedWeights(reweighter.to(model.device))
