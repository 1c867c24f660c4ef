"""Mixed precision on any device: which type the configuration asks for, and the context for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def half_precision(cfg: CfgNode) -> torch.dtype | None:
    """The half-precision type of a run on `MODEL.DEVICE`; None without mixed precision.

    `SOLVER.AMP.DTYPE` holds on CUDA. Elsewhere it is bfloat16, whose range needs no loss scaling.
    """
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    is_on_cuda = torch.device(cfg.MODEL.DEVICE).type == "cuda"
    return getattr(torch, cfg.SOLVER.AMP.DTYPE) if is_on_cuda else torch.bfloat16


def autocast(device_type: str, dtype: torch.dtype | None) -> torch.autocast:
    """Autocast to a half-precision type; one that changes nothing where that is None."""
    return torch.autocast(device_type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)
