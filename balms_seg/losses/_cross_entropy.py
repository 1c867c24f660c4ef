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
    if torch.compiler.is_compiling():  # the compiler fuses the plain form
        return _plain_cross_entropy(logits, targets, shift, is_shifted)
    return _ShiftedCrossEntropy.apply(logits, targets, shift, is_shifted)[0]


def _shift_rows(logits: Tensor, shift: Tensor, is_shifted: Tensor | None) -> Tensor:
    if is_shifted is None:
        return logits + shift
    return torch.addcmul(logits, is_shifted[:, None], shift)


def _plain_cross_entropy(
    logits: Tensor, targets: Tensor, shift: Tensor, is_shifted: Tensor | None
) -> Tensor:
    return F.cross_entropy(_shift_rows(logits, shift, is_shifted), targets, reduction="none")


class _ShiftedCrossEntropy(torch.autograd.Function):
    """The loss, and the buffer of probabilities that the backward pass uses up."""

    @staticmethod
    def forward(
        logits: Tensor, targets: Tensor, shift: Tensor, is_shifted: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        index = targets[:, None]
        shifted = _shift_rows(logits, shift, is_shifted)
        if not logits.is_cpu:
            log_probabilities = torch.log_softmax(shifted, dim=1)
            probabilities = torch.exp(log_probabilities, out=shifted)
            return -log_probabilities.gather(1, index).squeeze(1), probabilities
        # On a CPU the second exponential would dominate: take the logarithm of N probabilities
        # instead, and repeat by the long way the few rows whose probability underflows.
        probabilities = torch.softmax(shifted, dim=1, out=shifted)
        probability = probabilities.gather(1, index).squeeze(1)
        loss = -probability.log()
        rows = (probability < torch.finfo(probability.dtype).tiny).nonzero().squeeze(1)
        if len(rows) > 0:
            mask = None if is_shifted is None else is_shifted[rows]
            loss[rows] = _plain_cross_entropy(logits[rows], targets[rows], shift, mask)
        return loss, probabilities

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs)
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.probabilities = output[1]

    @staticmethod
    def backward(
        ctx: Any, grad_loss: Tensor | None, _: None
    ) -> tuple[Tensor | None, None, None, None]:
        # The buffer serves one backward pass; a second one, or create_graph, starts over.
        probabilities, ctx.probabilities = ctx.probabilities, None
        if grad_loss is None:
            return None, None, None, None
        logits, targets, shift, is_shifted = ctx.saved_tensors
        if probabilities is None or torch.is_grad_enabled():
            probabilities = torch.softmax(_shift_rows(logits, shift, is_shifted), dim=1)
        if torch.is_grad_enabled():
            minus_one = probabilities.new_full((len(targets), 1), -1)
            residual = probabilities.scatter_add(1, targets[:, None], minus_one)
            return residual * grad_loss[:, None], None, None, None
        gradient = probabilities.mul_(grad_loss[:, None])
        gradient.scatter_add_(1, targets[:, None], -grad_loss[:, None])
        return gradient, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        loss = torch.vmap(_plain_cross_entropy, in_dims)(*inputs)
        return (loss, loss.detach()), (0, 0)
