"""Cross-entropy of foreground against background and, apart from it, of the class among foreground.

N: rows, K: foreground classes; the last of K + 1 columns is background. One softmax over the
foreground serves both parts and the gradient: weighted by the counts it is the balanced one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def factored_cross_entropy(logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """-log p(foreground) - log balanced p(class | foreground), or -log p(background).

    Args:
        logits: (N, K+1) float32 or float64.
        targets: (N,) int64 in [0, K]; K is background.
        counts: (K,) positive, of the same dtype.

    Returns:
        (N,) loss in nats. Twice differentiable with respect to `logits`.
    """
    if torch.compiler.is_compiling():  # the compiler fuses the plain form
        return _plain_factored_cross_entropy(logits, targets, counts)
    return _FactoredCrossEntropy.apply(logits, targets, counts)[0]


def factored_residuals(logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """(N, K+1) derivative of each row's loss by its logits; arguments as `factored_cross_entropy`.

    Differentiable; the loss's own backward pass computes the same in place.
    """
    foreground, is_foreground = logits[:, :-1], (targets < len(counts)).to(logits)
    objectness = _objectness_residual(foreground.logsumexp(1) - logits[:, -1], is_foreground)
    balanced = torch.softmax(foreground + counts.log(), dim=1)
    within = objectness[:, None] * torch.softmax(foreground, dim=1)
    column = targets.clamp(max=len(counts) - 1)[:, None]
    classes = (is_foreground[:, None] * balanced).scatter_add(1, column, -is_foreground[:, None])
    return torch.cat([within + classes, -objectness[:, None]], dim=1)


def _plain_factored_cross_entropy(logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    foreground, is_foreground = logits[:, :-1], (targets < len(counts)).to(logits)
    log_odds = foreground.logsumexp(1) - logits[:, -1]
    column = targets.clamp(max=len(counts) - 1)
    class_loss = F.cross_entropy(foreground + counts.log(), column, reduction="none")
    objectness_loss = F.softplus((1 - 2 * is_foreground) * log_odds, threshold=60.0)
    return objectness_loss + is_foreground * class_loss


def _objectness_residual(log_odds: Tensor, is_foreground: Tensor) -> Tensor:
    """(N,) p(foreground) - 1 in foreground rows and p(foreground) in the others, not cancelled."""
    sign = 1 - 2 * is_foreground
    return sign * torch.sigmoid(sign * log_odds)


def _foreground_softmax(logits: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(N, K+1) softmax q over the foreground, then (N,) the largest z, its log q, sum of n_j q_j.

    The first two are kept apart, because log-sum-exp(z) - z_j = (largest - z_j) - log q loses no
    digits where the logits are large.
    """
    foreground = logits.clone()
    foreground[:, -1] = -torch.inf
    largest = foreground.amax(dim=1)
    probabilities = torch.softmax(foreground, dim=1, out=foreground)
    # The largest probability is at least 1/K, so that its logarithm is exact.
    log_peak = probabilities.amax(dim=1).log()
    with torch.autocast(logits.device.type, enabled=False):
        return probabilities, largest, log_peak, probabilities @ F.pad(counts, (0, 1))


class _FactoredCrossEntropy(torch.autograd.Function):
    """The loss, and the parts of it that the backward pass uses up."""

    @staticmethod
    def forward(
        logits: Tensor, targets: Tensor, counts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        probabilities, largest, log_peak, mean_count = _foreground_softmax(logits, counts)
        is_foreground = (targets < len(counts)).to(logits)
        column = targets.clamp(max=len(counts) - 1)
        log_odds = largest - logits[:, -1] - log_peak
        objectness_loss = F.softplus((1 - 2 * is_foreground) * log_odds, threshold=60.0)
        class_loss = largest - logits.gather(1, column[:, None]).squeeze(1) - log_peak
        class_loss = class_loss + (mean_count / counts[column]).log()
        loss = objectness_loss + is_foreground * class_loss
        return loss, probabilities, largest, log_peak, mean_count

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.parts = output[1:]

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None, *_: None) -> tuple[Tensor | None, None, None]:
        # Kept for one backward pass; a second one starts over.
        parts, ctx.parts = ctx.parts, None
        if grad_loss is None:
            return None, None, None
        logits, targets, counts = ctx.saved_tensors
        if torch.is_grad_enabled():
            return factored_residuals(logits, targets, counts) * grad_loss[:, None], None, None
        probabilities, largest, log_peak, mean_count = parts or _foreground_softmax(logits, counts)
        is_foreground = (targets < len(counts)).to(logits)
        log_odds = largest - logits[:, -1] - log_peak
        objectness = grad_loss * _objectness_residual(log_odds, is_foreground)
        of_class = grad_loss * is_foreground
        gradient = torch.outer(of_class / mean_count, F.pad(counts, (0, 1)))
        gradient.add_(objectness[:, None]).mul_(probabilities)
        gradient[:, -1] = -objectness
        gradient.scatter_add_(1, targets.clamp(max=len(counts) - 1)[:, None], -of_class[:, None])
        return gradient, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        loss = torch.vmap(_plain_factored_cross_entropy, in_dims)(*inputs)
        return (loss, *[loss.detach()] * 4), (0,) * 5
