"""Residuals: the derivative of each row's loss by its logits, in closed form.

N: rows, K: classes; target K is background. Each function belongs to the loss of the same name in
`balms_seg.losses`, takes the same arguments, makes the same checks, and returns what autograd
finds for reduction="sum". Half precision is computed in float32. No graph is kept.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import BACKGROUND_FORMS, _checks


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
    shifted = _shift_foreground(logits, targets < len(shift), shift)
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
    shift = _checks.widen(counts).log().to(logits)
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
    _check_background(background, background_count)
    logits = _checks.widen(logits)
    log_counts = _checks.widen(counts).log()
    if background == "factored":
        return _factored_residuals(logits, targets, log_counts.to(logits))
    if background == "prior":
        assert background_count is not None
        shifted = logits + F.pad(log_counts, (0, 1), value=math.log(background_count)).to(logits)
    else:
        if background == "neutral":
            log_counts = log_counts - log_counts.mean()
        shift = F.pad(log_counts, (0, 1)).to(logits)
        shifted = _shift_foreground(logits, targets < num_classes, shift)
    return _subtract_targets(torch.softmax(shifted, dim=1), targets)


def _factored_residuals(logits: Tensor, targets: Tensor, log_counts: Tensor) -> Tensor:
    num_classes = len(log_counts)
    foreground_logits, background_logit = logits[:, :-1], logits[:, -1]
    is_foreground = (targets < num_classes).to(logits)
    log_odds = foreground_logits.logsumexp(dim=1) - background_logit
    # p(foreground) - 1 on foreground rows, p(foreground) on background rows
    objectness = torch.sigmoid(log_odds) - is_foreground
    within = torch.softmax(foreground_logits, dim=1) * objectness[:, None]
    balanced = _subtract_targets(torch.softmax(foreground_logits + log_counts, dim=1), targets)
    foreground = within + balanced * is_foreground[:, None]
    return torch.cat([foreground, -objectness[:, None]], dim=1)


def _shift_foreground(logits: Tensor, is_foreground: Tensor, shift: Tensor) -> Tensor:
    return torch.where(is_foreground[:, None], logits + shift, logits)


def _subtract_targets(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Take 1 from each row's target, in place; a target past the last column has none."""
    num_columns = probabilities.shape[1]
    has_column = (targets < num_columns).to(probabilities)
    columns = targets.clamp(max=num_columns - 1)
    return probabilities.scatter_add_(1, columns[:, None], -has_column[:, None])


def _check_background(background: str, background_count: float | None) -> None:
    needs_count = background == "prior"
    is_right = background_count is None
    if needs_count:
        is_right = background_count is not None and 0 < background_count < math.inf
    if background not in BACKGROUND_FORMS or not is_right:
        raise ValueError(
            f"Expected background to be one of {BACKGROUND_FORMS}, with a positive "
            'background_count for "prior" and None for the others, but got '
            f"{background!r} with {background_count}."
        )
