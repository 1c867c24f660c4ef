"""Cross-entropy on shifted logits in few passes over memory.

N: rows, C: columns. Plain cross-entropy exponentiates in forward and again in backward and fills
a (N, C) gradient of zeros in between. Here forward keeps the softmax, so that backward is one
product.
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
        index = targets[:, None]
        shifted = _shift_rows(logits, shift, is_shifted)
        highest = shifted.amax(dim=1)
        target_logits = shifted.gather(1, index).squeeze(1)
        probabilities = torch.softmax(shifted, dim=1)
        ctx.save_for_backward(logits, targets, shift, is_shifted, probabilities)
        # The largest probability is exp(0) / sum, which gives log-sum-exp without a second pass.
        return highest - target_logits - probabilities.amax(dim=1).log()

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, None, None, None]:
        logits, targets, shift, is_shifted, probabilities = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: a form that autograd can follow
            probabilities = torch.softmax(_shift_rows(logits, shift, is_shifted), dim=1)
            residual = probabilities - F.one_hot(targets, logits.shape[1])
            return residual * grad_loss[:, None], None, None, None
        gradient = probabilities * grad_loss[:, None]
        gradient.scatter_add_(1, targets[:, None], -grad_loss[:, None])
        return gradient, None, None, None
