"""Errors of a training step, with the way on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from balms_seg.engine.checkpoints.find import saved_runs
from balms_seg.modeling.unfilled_norms import has_unfilled_norms

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from torch import nn


@contextmanager
def step_errors_explained(cfg: CfgNode, model: nn.Module) -> Iterator[None]:
    """Where a device runs out of memory or a loss diverges, say what to do.

    Args:
        cfg: of the run.
        model: that trains; with FrozenBN as it was built, its checkpoints lead nowhere.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise torch.OutOfMemoryError(_smaller_batch(cfg.SOLVER.IMS_PER_BATCH)) from error
    except FloatingPointError as error:
        anew = "Start anew, with --overwrite."
        way = anew if has_unfilled_norms(model) else _checkpoint_left(cfg.OUTPUT_DIR)
        raise FloatingPointError(f"{error} {way}") from error


def _smaller_batch(ims_per_batch: int) -> str:
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    held = f"; at most {peak / 2**30:.1f} GiB were held" if peak else ""
    return (
        f"The device ran out of memory in a training step{held}. Halve the batch, with the "
        f"schedule that goes with it: SOLVER.IMS_PER_BATCH {max(ims_per_batch // 2, 1)} "
        f"SOLVER.REFERENCE_IMS_PER_BATCH {ims_per_batch}; or SOLVER.AMP.ENABLED True. "
        "--dry-run estimates what a step needs."
    )


def _checkpoint_left(output_dir: str) -> str:
    run = next(saved_runs(output_dir), None)
    if run is None:
        return f"{output_dir} holds no checkpoint yet: start anew, with --overwrite."
    return f"--resume goes on after iteration {run.iteration}, from {run.path}."
