"""One learned number per class, with its Adam."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class ClassParameters:
    """psi: K float64 parameters on the CPU, moved by Adam.

    Args:
        num_classes: K.
        learning_rate: Adam's.
        betas: Adam's.
        weight_decay: L2 penalty on the distance from the start, added to the gradient.
        start: (K,) where psi starts; None: 0.

    Attributes:
        class_names: K names for error messages; class ids where None.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        learning_rate: float,
        betas: tuple[float, float],
        weight_decay: float = 0.0,
        start: np.ndarray | None = None,
    ) -> None:
        self.class_names: Sequence[str] | None = None
        start = np.zeros(num_classes) if start is None else start
        self._start = torch.tensor(start, dtype=torch.float64)
        self._weight_decay = weight_decay
        self._psi = self._start.clone()
        self._optimizer = torch.optim.Adam(
            [self._psi], lr=learning_rate, betas=betas, weight_decay=weight_decay
        )

    def numpy(self) -> np.ndarray:
        """(K,) psi, a copy."""
        return self._psi.numpy().copy()

    def step(self, gradient: Tensor) -> None:
        """Take an Adam step.

        Args:
            gradient: (K,) gradient by psi.

        Raises:
            ValueError: wrong shape.
            FloatingPointError: the gradient or the new psi is not finite; names the classes. A
                gradient that is not finite leaves psi and Adam as they were.
        """
        if gradient.shape != self._psi.shape:
            raise ValueError(
                f"Expected a gradient of shape {tuple(self._psi.shape)}, but got "
                f"{tuple(gradient.shape)}."
            )
        gradient = gradient.detach().to("cpu", torch.float64)
        self._check_finite(gradient, "gradient by psi")
        self._psi.grad = gradient - self._weight_decay * self._start  # Adam adds that of psi
        self._optimizer.step()
        self._check_finite(self._psi, "parameter psi")

    def state_dict(self) -> dict[str, Any]:
        """Copies of psi and of Adam's state."""
        return {
            "psi": self._psi.detach().clone(),
            "optimizer": copy.deepcopy(self._optimizer.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with psi and Adam's state, its learning rate and betas included."""
        self._psi.copy_(state["psi"])
        self._optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))

    def _check_finite(self, values: Tensor, what: str) -> None:
        bad = torch.nonzero(~torch.isfinite(values)).flatten().tolist()
        if not bad:
            return
        names = self.class_names
        named = [f"class {i}" if names is None else f"class {i} ({names[i]})" for i in bad[:5]]
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise FloatingPointError(
            f"The {what} became {values[bad[0]].item()} for {', '.join(named)}{more}. Resume from "
            "the last checkpoint with a lower META.LR, or look for the loss that is not finite."
        )
