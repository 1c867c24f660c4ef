"""Adam as a function, for values of which only some are updated at a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class AdamSettings:
    """How far a step goes.

    Attributes:
        lr: step size.
        betas: decay rates of the two running averages.
        weight_decay: L2 penalty on the distance from where the values started.
    """

    lr: float
    betas: tuple[float, float]
    weight_decay: float

    def __post_init__(self) -> None:
        in_range = all(0 <= beta < 1 for beta in self.betas) and len(self.betas) == 2
        if not (self.lr >= 0 and self.weight_decay >= 0 and in_range):
            raise ValueError(
                f"Expected lr >= 0, weight_decay >= 0 and two betas in [0, 1), but got {self.lr}, "
                f"{self.weight_decay} and {self.betas}; set META.LR, META.WEIGHT_DECAY and "
                "META.BETAS."
            )


class AdamState(NamedTuple):
    """Running averages of the gradient and its square, and each value's steps so far; all (K,)."""

    first_moment: Tensor
    second_moment: Tensor
    num_steps: Tensor


_EPS = 1e-8  # added to the root of the second average


@torch.no_grad()
def adam_step(
    values: Tensor,
    gradient: Tensor,
    state: AdamState,
    settings: AdamSettings,
    *,
    is_updated: Tensor | None = None,
) -> tuple[Tensor, AdamState]:
    """One step without weight decay, out of place.

    Equal to `torch.optim.Adam` where every value is updated.

    Args:
        values: (K,).
        gradient: (K,), of the penalty too.
        state: zeros before the first step.
        settings: step size and decay rates.
        is_updated: (K,) bool. A value where it is False keeps still, with its averages and its
            count of steps: neither old momentum nor weight decay moves it. None updates all.

    Returns:
        The new values and state.

    Source: Kingma and Ba 2015 (arXiv 1412.6980).
    """
    betas = settings.betas
    num_steps = state.num_steps + 1
    first = betas[0] * state.first_moment + (1 - betas[0]) * gradient
    second = betas[1] * state.second_moment + (1 - betas[1]) * gradient.square()
    steps = num_steps.double()  # in float32 the first corrections would lose five digits
    first_correction, second_correction = ((1 - beta**steps).to(values) for beta in betas)
    denominator = (second / second_correction).sqrt() + _EPS
    updated = values - settings.lr * first / first_correction / denominator
    new_state = AdamState(first, second, num_steps)
    if is_updated is None:
        return updated, new_state
    kept = (torch.where(is_updated, new, old) for new, old in zip(new_state, state, strict=True))
    return torch.where(is_updated, updated, values), AdamState(*kept)
