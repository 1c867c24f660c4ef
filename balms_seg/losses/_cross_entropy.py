"""Cross-entropy on shifted logits in few passes over memory.

N: rows, C: columns. Plain cross-entropy exponentiates in forward and again in backward, and
allocates (N, C) three times. Here one buffer holds the shifted logits, then their softmax, and at
last the gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def shifted_cross_entropy(
    logits: Tensor, targets: Tensor, shift: Tensor, is_shifted: Tensor | None = None
) -> Tensor:
    """Cross-entropy of each row of `logits + shift`.

    Args:
        logits: (N, C) float32 or float64.
        targets: (N,) int64 in [0, C).
        shift: (C,) constants of the same dtype.
        is_shifted: (N,) 1 for rows that take the shift, 0 for rows that do not, in the same dtype;
            None shifts every row.

    Returns:
        (N,) loss in nats. Twice differentiable with respect to `logits`.
    """
    return _ShiftedCrossEntropy.apply(logits, targets, shift, is_shifted)


def _shift_rows(logits: Tensor, shift: Tensor, is_shifted: Tensor | None) -> Tensor:
    if is_shifted is None:
        return logits + shift
    return torch.addcmul(logits, is_shifted[:, None], shift)


class _ShiftedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, shift: Tensor, is_shifted: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(logits, targets, shift, is_shifted)
        index = targets[:, None]
        shifted = _shift_rows(logits, shift, is_shifted)
        if not logits.is_cpu:
            log_probabilities = torch.log_softmax(shifted, dim=1)
            ctx.probabilities = torch.exp(log_probabilities, out=shifted)
            return -log_probabilities.gather(1, index).squeeze(1)
        # On a CPU the second exponential would dominate: take the logarithm of N probabilities
        # instead, and repeat by the long way the few rows whose probability underflows.
        ctx.probabilities = torch.softmax(shifted, dim=1, out=shifted)
        probability = ctx.probabilities.gather(1, index).squeeze(1)
        loss = -probability.log()
        rows = (probability < torch.finfo(probability.dtype).tiny).nonzero().squeeze(1)
        if len(rows) > 0:
            mask = None if is_shifted is None else is_shifted[rows]
            shifted = _shift_rows(logits[rows], shift, mask)
            loss[rows] = F.cross_entropy(shifted, targets[rows], reduction="none")
        return loss

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, None, None, None]:
        logits, targets, shift, is_shifted = ctx.saved_tensors
        # The buffer serves one backward pass; a second one, or create_graph, starts over.
        probabilities, ctx.probabilities = ctx.probabilities, None
        if probabilities is None or torch.is_grad_enabled():
            probabilities = torch.softmax(_shift_rows(logits, shift, is_shifted), dim=1)
        if torch.is_grad_enabled():
            residual = probabilities - F.one_hot(targets, logits.shape[1])
            return residual * grad_loss[:, None], None, None, None
        gradient = probabilities.mul_(grad_loss[:, None])
        gradient.scatter_add_(1, targets[:, None], -grad_loss[:, None])
        return gradient, None, None, None
