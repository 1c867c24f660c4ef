"""Entries of binary classifiers: one a row and column. R rows, C columns."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import _checks


def positive_entries(logits: Tensor, targets: Tensor) -> Tensor:
    """(R, C) bool, true at each row's target; a target without a column has none."""
    return targets[:, None] == torch.arange(logits.shape[1], device=targets.device)


def binary_terms(logits: Tensor, is_positive: Tensor, weights: Tensor | None = None) -> Tensor:
    """(R, C) weighted binary cross-entropies, in float32 or wider."""
    logits = _checks.widen(logits)
    return F.binary_cross_entropy_with_logits(
        logits, is_positive.to(logits), weights, reduction="none"
    )
