"""Sum over classes of the binary cross-entropy on shifted logits, from class ids.

N: rows, K: classes; target K is background. No (N, K) one-hot target is ever made: every column is
treated as negative and the target's entry is then overwritten.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_LINEAR_FROM = 60.0  # softplus(x) = x from here on, exactly, in float32 and in float64


def shifted_binary_cross_entropy(logits: Tensor, targets: Tensor, shift: Tensor | None) -> Tensor:
    """Binary cross-entropy of each row, summed over the classes.

    Args:
        logits: (N, K) float32 or float64.
        targets: (N,) int64 in [0, K]; K is background, which has no positive column.
        shift: (K,) constants of the same dtype, added to foreground rows; None for no shift.

    Returns:
        (N,) loss in nats. Twice differentiable with respect to `logits`.
    """
    # The lookup, unlike a comparison, stops on an id out of range on a GPU as well.
    table = F.pad(logits.new_ones(logits.shape[1]), (0, 1))
    is_foreground = table.index_select(0, targets)
    columns = targets.clamp(max=logits.shape[1] - 1)
    if torch.compiler.is_compiling():  # the compiler fuses the plain form
        return _plain_binary_cross_entropy(logits, columns, is_foreground, shift)
    return _ShiftedBinaryCrossEntropy.apply(logits, columns, is_foreground, shift)[0]


def _shift_rows(logits: Tensor, shift: Tensor | None, is_foreground: Tensor) -> Tensor:
    return logits if shift is None else torch.addcmul(logits, is_foreground[:, None], shift)


def _plain_binary_cross_entropy(
    logits: Tensor, columns: Tensor, is_foreground: Tensor, shift: Tensor | None
) -> Tensor:
    shifted = _shift_rows(logits, shift, is_foreground)
    positive = torch.zeros_like(shifted).scatter(1, columns[:, None], is_foreground[:, None])
    return F.binary_cross_entropy_with_logits(shifted, positive, reduction="none").sum(dim=1)


class _ShiftedBinaryCrossEntropy(torch.autograd.Function):
    """The loss, and the buffer of shifted logits that the backward pass uses up."""

    @staticmethod
    def forward(
        logits: Tensor, columns: Tensor, is_foreground: Tensor, shift: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        index, sign = columns[:, None], (1 - 2 * is_foreground)[:, None]
        shifted = _shift_rows(logits, shift, is_foreground)
        terms = F.softplus(shifted, threshold=_LINEAR_FROM)
        # softplus(-z), not softplus(z) - z: no cancellation where z is large
        terms.scatter_(
            1, index, F.softplus(sign * shifted.gather(1, index), threshold=_LINEAR_FROM)
        )
        return terms.sum(dim=1), shifted.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs)
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.shifted = output[1]

    @staticmethod
    def backward(
        ctx: Any, grad_loss: Tensor | None, _: None
    ) -> tuple[Tensor | None, None, None, None]:
        # The buffer serves one backward pass; a second one, or create_graph, starts over.
        shifted, ctx.shifted = ctx.shifted, None
        if grad_loss is None:
            return None, None, None, None
        logits, columns, is_foreground, shift = ctx.saved_tensors
        index = columns[:, None]
        if shifted is None or torch.is_grad_enabled():
            shifted = _shift_rows(logits, shift, is_foreground)
        if torch.is_grad_enabled():
            residual = shifted.sigmoid().scatter_add(1, index, -is_foreground[:, None])
            return residual * grad_loss[:, None], None, None, None
        sign = (1 - 2 * is_foreground)[:, None]
        at_target = sign * torch.sigmoid(sign * shifted.gather(1, index))
        gradient = torch.sigmoid(shifted) if shift is None else shifted.sigmoid_()
        gradient.scatter_(1, index, at_target)
        return gradient.mul_(grad_loss[:, None]), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        loss = torch.vmap(_plain_binary_cross_entropy, in_dims)(*inputs)
        return (loss, loss.detach()), (0, 0)
