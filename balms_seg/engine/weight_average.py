"""An exponential moving average of the weights, which is what gets evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn

from balms_seg.methods import Method

CHECKPOINT_KEY = "weight_average"


class WeightAverage(HookBase):
    """Averages parameters and buffers over the iterations; running state of methods is copied.

    A checkpoint holds the average as its model, and the weights that train beside it: --resume
    continues both, whatever else reads the checkpoint takes the average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Average a model.

        Args:
            model: in training.
            decay: share that the average keeps at an iteration; early on less, so that it does
                not lag behind: (1 + n) / (10 + n) after n iterations.
        """
        self._model, self.decay = model, decay
        self._num_averaged = 0
        self._running_state = running_state_names(model)
        self._average = self._copy()

    def before_train(self) -> None:
        """Start from the weights that were loaded, unless a checkpoint brought an average."""
        if self._num_averaged == 0:
            self._average = self._copy()

    @torch.no_grad()
    def after_step(self) -> None:
        """Take the new weights in."""
        self._num_averaged += 1
        decay = min(self.decay, (1 + self._num_averaged) / (10 + self._num_averaged))
        averaged: list[tuple[Tensor, Tensor]] = []
        copied: list[tuple[Tensor, Tensor]] = []
        for name, value in self._model.state_dict().items():
            is_averaged = value.is_floating_point() and name not in self._running_state
            (averaged if is_averaged else copied).append((self._average[name], value))
        # In a few kernels, as torch.optim.swa_utils does.
        averages, values = map(list, zip(*averaged, strict=True))
        torch._foreach_lerp_(averages, values, 1 - decay)
        for average, value in copied:
            average.copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights for a while."""
        own = self._copy()
        self._model.load_state_dict(self._average)
        try:
            yield
        finally:
            self._model.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """The average, and over how many iterations it goes."""
        return {"num_averaged": self._num_averaged, "model": self._average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._num_averaged = state["num_averaged"]
        for name, value in self._average.items():
            value.copy_(state["model"][name])

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self._model.state_dict().items()}


def running_state_names(model: nn.Module) -> set[str]:
    """Names, in the model's state, of what methods accumulate: a count has no average."""
    return {
        f"{name}.{key}" if name else key
        for name, module in model.named_modules()
        if isinstance(module, Method)
        for key in module.state_dict()
    }
