"""One SGD step as a function of the gradient, with the settings of a live optimiser."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SGDSettings:
    """What SGD does to one parameter at its next step; the names are `torch.optim.SGD`'s.

    Attributes:
        lr: learning rate of this step.
        momentum: 0 for none.
        dampening: share of the gradient that does not enter an existing momentum buffer.
        nesterov: Nesterov momentum.
        weight_decay: L2 penalty.
        momentum_buffer: of the parameter's shape; None before the first step.
    """

    lr: float
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    momentum_buffer: Tensor | None = None

    @property
    def gradient_rate(self) -> float:
        """How far the parameter moves against each unit of gradient; decay and buffer aside."""
        if self.momentum == 0:
            return self.lr
        share = 1.0 if self.momentum_buffer is None else 1 - self.dampening
        return self.lr * (1 + self.momentum * share if self.nesterov else share)


def sgd_step(parameter: Tensor, gradient: Tensor, settings: SGDSettings) -> Tensor:
    """The parameter after one step, out of place; equal to `torch.optim.SGD`'s."""
    direction = gradient + settings.weight_decay * parameter
    if settings.momentum != 0:
        velocity = direction
        if settings.momentum_buffer is not None:
            buffer = settings.momentum_buffer.to(direction)
            velocity = settings.momentum * buffer + (1 - settings.dampening) * direction
        direction = direction + settings.momentum * velocity if settings.nesterov else velocity
    return parameter - settings.lr * direction


def sgd_settings(
    optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor]
) -> tuple[SGDSettings, ...]:
    """Read what an optimiser would do to some parameters if it stepped now.

    Every group has its own settings, and a schedule changes the learning rate at each iteration:
    read them again for each meta step.

    Args:
        optimizer: `torch.optim.SGD` itself.
        parameters: some of those it optimises.

    Returns:
        One item a parameter, in their order. Momentum buffers are not copied.

    Raises:
        TypeError: the optimiser is not plain SGD, or clips gradients.
        ValueError: a parameter is not among the optimiser's, or SGD maximises.
    """
    _check_is_plain_sgd(optimizer)
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    settings = []
    for parameter in parameters:
        group = group_of.get(id(parameter))
        if group is None:
            raise ValueError(
                f"Expected parameters that the optimiser trains, but one of shape "
                f"{tuple(parameter.shape)} is in none of its groups; build the optimiser from the "
                "model whose classifier is unrolled."
            )
        if group.get("maximize", False):
            raise ValueError("Expected SGD that minimises, but got maximize=True; leave it out.")
        settings.append(
            SGDSettings(
                lr=float(group["lr"]),
                momentum=group["momentum"],
                dampening=group["dampening"],
                nesterov=group["nesterov"],
                weight_decay=group["weight_decay"],
                momentum_buffer=optimizer.state.get(parameter, {}).get("momentum_buffer"),
            )
        )
    return tuple(settings)


def _check_is_plain_sgd(optimizer: torch.optim.Optimizer) -> None:
    kind = type(optimizer)
    if kind is torch.optim.SGD:
        return
    if kind.__name__.endswith("WithGradientClip"):  # made by detectron2 around any optimiser
        raise TypeError(
            f"Expected plain SGD for the meta step, but got {kind.__name__}: the one-step meta "
            "gradient does not pass through gradient clipping; set SOLVER.CLIP_GRADIENTS.ENABLED "
            "to False."
        )
    raise TypeError(
        f"Expected torch.optim.SGD for the meta step, but got {kind.__name__}, whose step is not "
        "linear in the gradient as far as known here; set SOLVER.OPTIMIZER to SGD."
    )
