"""Optimisers by name, with detectron2's parameter groups and gradient clipping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from detectron2.solver import build_optimizer as build_sgd
from detectron2.solver import get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from torch import nn


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that `SOLVER.OPTIMIZER` names: detectron2's SGD, or AdamW."""
    if cfg.SOLVER.OPTIMIZER == "SGD":
        return build_sgd(cfg, model)
    parameters = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    optimizer = maybe_add_gradient_clipping(cfg, torch.optim.AdamW)
    return optimizer(parameters, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY)


@contextmanager
def settings_kept(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Load a state within: rates, decay and momentum of each group stay those of this run.

    torch's own `load_state_dict` brings the saved run's back with its moments.
    """
    kept = [
        {key: value for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]
    yield
    for group, settings in zip(optimizer.param_groups, kept, strict=True):
        group.update({"initial_lr": settings["lr"], **settings})
