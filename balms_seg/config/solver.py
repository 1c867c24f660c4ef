"""The optimiser, the average of the weights, and which checkpoints stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectron2.config import CfgNode

OPTIMIZERS = ("SGD", "AdamW")
HALF_PRECISION = ("float16", "bfloat16")


def add_keys(cfg: CfgNode) -> None:
    """Declare what detectron2's solver lacks."""
    # Optimiser: SGD | AdamW. AdamW reads BASE_LR, WEIGHT_DECAY and the clipping keys as SGD does.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Type of mixed precision (AMP.ENABLED) on CUDA: float16 with loss scaling, as detectron2, or
    # bfloat16, which needs none. A CPU always uses bfloat16.
    cfg.SOLVER.AMP.DTYPE = "float16"
    # Share that the moving average of the weights keeps at an iteration; it is what is evaluated.
    # 0: no average.
    cfg.SOLVER.EMA_DECAY = 0.0
    # Length of the run in whole passes through the training set, in place of MAX_ITER; STEPS are
    # scaled along. 0: MAX_ITER holds.
    cfg.SOLVER.EPOCHS = 0
    # Share of the run that is warm-up, in place of WARMUP_ITERS. 0: WARMUP_ITERS holds.
    cfg.SOLVER.WARMUP_SHARE = 0.0
    # Periodic checkpoints to keep, the newest; model_final and model_best stay. 0: all.
    cfg.SOLVER.CHECKPOINTS_TO_KEEP = 3
    # Batch size that BASE_LR, MAX_ITER, STEPS and WARMUP_ITERS are for, from which they are
    # rescaled to IMS_PER_BATCH as REFERENCE_WORLD_SIZE does it. 0: IMS_PER_BATCH itself.
    cfg.SOLVER.REFERENCE_IMS_PER_BATCH = 0


def problems(cfg: CfgNode, *, of_images: bool) -> list[str]:
    """Schedules that cannot be run."""
    found = []
    if cfg.SOLVER.OPTIMIZER not in OPTIMIZERS:
        found.append(
            f"SOLVER.OPTIMIZER is {cfg.SOLVER.OPTIMIZER!r}; expected one of "
            f"{', '.join(OPTIMIZERS)}."
        )
    if cfg.SOLVER.AMP.DTYPE not in HALF_PRECISION:
        found.append(
            f"SOLVER.AMP.DTYPE is {cfg.SOLVER.AMP.DTYPE!r}; expected one of "
            f"{', '.join(HALF_PRECISION)}."
        )
    if not 0 <= cfg.SOLVER.EMA_DECAY < 1:
        found.append(f"SOLVER.EMA_DECAY is {cfg.SOLVER.EMA_DECAY}; expected a share in [0, 1).")
    if cfg.SOLVER.CHECKPOINTS_TO_KEEP < 0:
        found.append(
            f"SOLVER.CHECKPOINTS_TO_KEEP is {cfg.SOLVER.CHECKPOINTS_TO_KEEP}; expected 0 (all) or "
            "more."
        )
    if not cfg.SOLVER.EPOCHS >= 0:
        found.append(f"SOLVER.EPOCHS is {cfg.SOLVER.EPOCHS}; expected 0 or more.")
    if not 0 <= cfg.SOLVER.WARMUP_SHARE < 1:
        found.append(
            f"SOLVER.WARMUP_SHARE is {cfg.SOLVER.WARMUP_SHARE}; expected a share in [0, 1)."
        )
    if cfg.SOLVER.MAX_ITER < 1:
        found.append(f"SOLVER.MAX_ITER is {cfg.SOLVER.MAX_ITER}; expected at least 1.")
    if cfg.SOLVER.IMS_PER_BATCH < 1:
        found.append(f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}; expected at least 1.")
    reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
    if reference > 0 and cfg.SOLVER.IMS_PER_BATCH % reference:
        found.append(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH} and SOLVER.REFERENCE_WORLD_SIZE "
            f"{reference}; expected a multiple of it (the batch is of that many processes and is "
            "rescaled to the actual number), or REFERENCE_WORLD_SIZE 0 for no rescaling."
        )
    return found
