"""A run goes on with another number of processes, or another batch size.

Positions in the data stream count images, so a resumed run takes the first image that was not
consumed. Iterations and the schedule follow detectron2's rule: k times the batch means a k-th of
the iterations, and k times the learning rate.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from detectron2.engine import DefaultTrainer

from balms_seg.config.meta_learning import learned_quantity
from balms_seg.declared_keys import require_our_keys
from balms_seg.wording import agreeing, counted

if TYPE_CHECKING:
    import torch
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)

_SCHEDULE = ("BASE_LR", "MAX_ITER", "STEPS")


def scaled_to(cfg: CfgNode, num_processes: int) -> CfgNode:
    """A configuration with the schedule that goes with its batch size and number of processes.

    As `SOLVER.REFERENCE_IMS_PER_BATCH` and `SOLVER.REFERENCE_WORLD_SIZE` ask for it. Besides what
    detectron2 scales, the meta step's learning rate and batch: with k times the iterations, k times
    the Adam steps would let psi drift k times as far. The moving average forgets over as many
    images as before.
    """
    require_our_keys(cfg)
    solver = cfg.SOLVER
    reference = solver.REFERENCE_IMS_PER_BATCH or solver.IMS_PER_BATCH
    scaled = cfg.clone()
    scaled.defrost()
    # The rule for processes serves for images: as if each had one.
    scaled.SOLVER.IMS_PER_BATCH = scaled.SOLVER.REFERENCE_WORLD_SIZE = reference
    scaled = DefaultTrainer.auto_scale_workers(scaled, solver.IMS_PER_BATCH)
    scaled.SOLVER.REFERENCE_WORLD_SIZE = solver.REFERENCE_WORLD_SIZE
    scaled = DefaultTrainer.auto_scale_workers(scaled, num_processes)
    scale = scaled.SOLVER.IMS_PER_BATCH / reference
    if scale == 1:
        return cfg
    # A period of few iterations would be rounded to none.
    scaled.SOLVER.CHECKPOINT_PERIOD = max(scaled.SOLVER.CHECKPOINT_PERIOD, 1)
    scaled.META.LR *= scale
    scaled.META.BATCH_SIZE = round(scaled.META.BATCH_SIZE * scale)
    scaled.SOLVER.EMA_DECAY **= scale
    _warn_of_new_schedule(cfg, scaled, num_processes)
    if cfg.is_frozen():
        scaled.freeze()
    return scaled


def _warn_of_new_schedule(given: CfgNode, scaled: CfgNode, num_processes: int) -> None:
    """Say old and new numbers before the start: the run may be eight times as long."""
    before, after = given.SOLVER, scaled.SOLVER
    keys = ("IMS_PER_BATCH", "BASE_LR", "MAX_ITER", "STEPS", "WARMUP_ITERS")
    changes = [f"{key} {_shown(before[key])} -> {_shown(after[key])}" for key in keys]
    if learned_quantity(given) != "none":
        changes.append(f"META.LR {given.META.LR:g} -> {scaled.META.LR:g}")
    logger.warning(
        "The schedule is rescaled, for SOLVER.REFERENCE_WORLD_SIZE is %d (the run has %d) and "
        "SOLVER.REFERENCE_IMS_PER_BATCH %d: %s. With both at 0 the numbers hold as "
        "they stand: SOLVER.REFERENCE_WORLD_SIZE 0 SOLVER.REFERENCE_IMS_PER_BATCH 0.",
        before.REFERENCE_WORLD_SIZE,
        num_processes,
        before.REFERENCE_IMS_PER_BATCH,
        ", ".join(changes),
    )


def _shown(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def follow_batch_size(cfg: CfgNode, saved: Mapping[str, Any]) -> None:
    """Let the schedule of a resumed run follow its batch size where that alone was changed by hand.

    Args:
        cfg: of the run, as given; changed in place.
        saved: configuration of the checkpoint that it goes on from.
    """
    saved = saved.get("SOLVER", {})
    reference = saved.get("REFERENCE_IMS_PER_BATCH") or saved.get("IMS_PER_BATCH")
    if cfg.SOLVER.REFERENCE_IMS_PER_BATCH or reference in (None, cfg.SOLVER.IMS_PER_BATCH):
        return
    # A share of the run is filled in later, and a checkpoint has it filled in.
    warmup = "WARMUP_SHARE" if cfg.SOLVER.WARMUP_SHARE > 0 else "WARMUP_ITERS"
    changed = [
        key
        for key in (*_SCHEDULE, warmup)
        if _comparable(saved.get(key)) != _comparable(cfg.SOLVER[key])
    ]
    if not changed:
        cfg.SOLVER.REFERENCE_IMS_PER_BATCH = reference
        logger.warning(
            "SOLVER.IMS_PER_BATCH was %d and is %d: learning rate and iterations follow it.",
            reference,
            cfg.SOLVER.IMS_PER_BATCH,
        )


def _comparable(value: Any) -> Any:
    """A list for a tuple, which yaml does not know."""
    return list(value) if isinstance(value, tuple) else value


def rescale_progress(
    state: Mapping[str, Any], batch_size: int, scheduler: torch.optim.lr_scheduler.LRScheduler
) -> dict[str, Any]:
    """A trainer's state with this run's learning rates, in iterations of its batch size.

    Args:
        state: of the saved run.
        batch_size: of this run.
        scheduler: of this run; its learning rates hold.

    Returns:
        The state; iterations are those saved where the batch size is the same, or not known.
    """
    hooks = dict(state.get("hooks", {}))
    if "LRScheduler" in hooks:
        hooks["LRScheduler"] = {**hooks["LRScheduler"], "base_lrs": scheduler.base_lrs}
    old = state.get("data_loader", {}).get("batch_size", batch_size)
    if old == batch_size:
        return {**state, "hooks": hooks}
    done = round((state["iteration"] + 1) * old / batch_size)
    logger.warning(
        "The batch size was %d and is %d: %s done %s as %d.",
        old,
        batch_size,
        counted(state["iteration"] + 1, "iteration"),
        agreeing(state["iteration"] + 1, "counts", "count"),
        done,
    )
    if "LRScheduler" in hooks:
        hooks["LRScheduler"]["last_epoch"] = done
    return {**state, "iteration": done - 1, "hooks": hooks}


def set_learning_rates(
    optimizer: torch.optim.Optimizer, scheduler: torch.optim.lr_scheduler.LRScheduler
) -> None:
    """Give an optimiser, whose state was loaded, the rates of its scheduler's present step."""
    rates = zip(optimizer.param_groups, scheduler.base_lrs, scheduler.get_lr(), strict=True)
    for group, base, rate in rates:
        group["initial_lr"], group["lr"] = base, rate
