"""Focal loss on a softmax."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import _checks


def focal_loss(
    logits: Tensor, targets: Tensor, *, gamma: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy times (1 - p)^gamma, p the probability of the target.

    Args:
        logits: (N, K) unnormalised scores; half precision is computed in float32.
        targets: (N,) int64 in [0, K).
        gamma: strength, 0 or more; 0 is cross-entropy.
        reduction: "none" gives (N,); "mean" and "sum" give a scalar, 0 where N = 0.

    Returns:
        Loss in nats, in float32 or wider. The factor has a gradient of its own.

    Raises:
        ValueError: shapes disagree, `gamma` is negative, a target is out of range (on the CPU), or
            `reduction` is unknown.
        TypeError: logits are not floating-point or targets not int64.

    Source: Lin et al. 2017 (arXiv 1708.02002), carried over to the softmax as in kaidic/LDAM-DRW:
    losses.py.
    """
    _checks.check_reduction(reduction)
    _checks.check_logits_and_targets(logits, targets)
    if not gamma >= 0:
        raise ValueError(f"Expected gamma of at least 0, but got {gamma}.")
    entropy = F.cross_entropy(_checks.widen(logits), targets, reduction="none")
    # The floor keeps the power's derivative finite at p = 1 for gamma below 1.
    rest = (-torch.expm1(-entropy)).clamp(min=torch.finfo(entropy.dtype).tiny)
    return _checks.reduce_loss(rest**gamma * entropy, reduction)
