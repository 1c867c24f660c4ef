"""Adam as a function, for values of which only some are updated at a step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class AdamState(NamedTuple):
    """Running averages of the gradient and its square, and each value's steps so far; all (K,)."""

    first_moment: Tensor
    second_moment: Tensor
    num_steps: Tensor


@torch.no_grad()
def adam_step(
    values: Tensor,
    gradient: Tensor,
    state: AdamState,
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float = 0.0,
    eps: float = 1e-8,
    is_updated: Tensor | None = None,
) -> tuple[Tensor, AdamState]:
    """One step, out of place; equal to `torch.optim.Adam` where every value is updated.

    Args:
        values: (K,).
        gradient: (K,).
        state: zeros before the first step.
        lr: step size.
        betas: decay rates of the two averages.
        weight_decay: L2 penalty, added to the gradient.
        eps: added to the root of the second average.
        is_updated: (K,) bool. A value where it is False keeps still, with its averages and its
            count of steps: neither old momentum nor weight decay moves it. None updates all.

    Returns:
        The new values and state.

    Source: Kingma and Ba 2015 (arXiv 1412.6980).
    """
    gradient = gradient + weight_decay * values
    num_steps = state.num_steps + 1
    first = betas[0] * state.first_moment + (1 - betas[0]) * gradient
    second = betas[1] * state.second_moment + (1 - betas[1]) * gradient.square()
    steps = num_steps.double()  # in float32 the first corrections would lose five digits
    first_correction, second_correction = ((1 - beta**steps).to(values) for beta in betas)
    denominator = (second / second_correction).sqrt() + eps
    updated = values - lr * first / first_correction / denominator
    new_state = AdamState(first, second, num_steps)
    if is_updated is None:
        return updated, new_state
    kept = (torch.where(is_updated, new, old) for new, old in zip(new_state, state, strict=True))
    return torch.where(is_updated, updated, values), AdamState(*kept)
