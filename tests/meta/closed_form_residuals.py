"""Residuals: the derivative of each row's loss by its logits, in closed form.

N: rows, K: classes; target K is background. Each function belongs to the loss of the same name in
`balms_seg.losses`, takes the same arguments, makes the same checks, and returns what autograd
finds for reduction="sum". Half precision is computed in float32. No graph is kept.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from balms_seg.losses import _checks
from balms_seg.losses._background import background_shift, check_background
from balms_seg.losses._factored_cross_entropy import factored_residuals


@torch.no_grad()
def sigmoid_residuals(logits: Tensor, targets: Tensor) -> Tensor:
    """(N, K) residuals of `balms_seg.losses.sigmoid_loss`."""
    _checks.check_logits_and_targets(logits, targets, has_implicit_background=True)
    return _subtract_targets(torch.sigmoid(_checks.widen(logits)), targets)


@torch.no_grad()
def balanced_sigmoid_residuals(logits: Tensor, targets: Tensor, frequency: Tensor) -> Tensor:
    """(N, K) residuals of `balms_seg.losses.balanced_sigmoid_loss`."""
    _checks.check_logits_and_targets(logits, targets, has_implicit_background=True)
    _checks.check_class_vector(frequency, name="frequency", num_classes=logits.shape[1], upper=1.0)
    logits = _checks.widen(logits)
    shift = torch.logit(_checks.widen(frequency)).to(logits)
    shifted = _shift_rows(logits, shift, targets < len(shift))
    return _subtract_targets(torch.sigmoid(shifted), targets)


@torch.no_grad()
def softmax_residuals(logits: Tensor, targets: Tensor) -> Tensor:
    """(N, C) residuals of cross-entropy, targets in [0, C)."""
    _checks.check_logits_and_targets(logits, targets)
    return _subtract_targets(torch.softmax(_checks.widen(logits), dim=1), targets)


@torch.no_grad()
def balanced_softmax_residuals(logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """(N, K) residuals of `balms_seg.losses.balanced_softmax_loss`: no background column."""
    _checks.check_logits_and_targets(logits, targets)
    _checks.check_class_vector(counts, name="counts", num_classes=logits.shape[1], upper=math.inf)
    logits = _checks.widen(logits)
    shift = _checks.widen_with(counts, logits).log().to(logits)
    return _subtract_targets(torch.softmax(logits + shift, dim=1), targets)


@torch.no_grad()
def balanced_softmax_residuals_with_background(
    logits: Tensor,
    targets: Tensor,
    counts: Tensor,
    *,
    background: str = "foreground_only",
    background_count: float | None = None,
) -> Tensor:
    """(N, K+1) residuals of `balms_seg.losses.balanced_softmax_loss_with_background`."""
    _checks.check_logits_and_targets(logits, targets, min_columns=2)
    num_classes = logits.shape[1] - 1
    _checks.check_class_vector(counts, name="counts", num_classes=num_classes, upper=math.inf)
    check_background(background, background_count)
    logits = _checks.widen(logits)
    counts = _checks.widen_with(counts, logits)
    if background == "factored":
        return factored_residuals(logits, targets, counts.to(logits))
    shift, is_shifted = background_shift(counts.log(), targets, background, background_count)
    shifted = _shift_rows(logits, shift.to(logits), is_shifted)
    return _subtract_targets(torch.softmax(shifted, dim=1), targets)


def _shift_rows(logits: Tensor, shift: Tensor, is_shifted: Tensor | None) -> Tensor:
    if is_shifted is None:
        return logits + shift
    return torch.where(is_shifted[:, None], logits + shift, logits)


def _subtract_targets(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Take 1 from each row's target, in place; a target past the last column has none."""
    num_columns = probabilities.shape[1]
    has_column = (targets < num_columns).to(probabilities)
    columns = targets.clamp(max=num_columns - 1)
    return probabilities.scatter_add_(1, columns[:, None], -has_column[:, None])
