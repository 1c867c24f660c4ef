"""One learned number for each class, with its Adam: what reweighter and sampler have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from balms_seg.meta.adam import AdamSettings, AdamState, adam_step

_MAX_NAMES = 5  # named in a message


class ClassParameters(nn.Module):
    """psi: K numbers that Adam moves.

    psi is a buffer, not a parameter: no optimiser and no data-parallel wrapper may touch it. All
    ranks hold the same psi as long as they take the same steps in the same order.

    Attributes:
        psi: (K,); replaced by a step, never changed in place.
        settings: of Adam.
        class_names: K names for messages, compared with a checkpoint's; None: ids alone.
    """

    psi: Tensor
    first_moment: Tensor
    second_moment: Tensor
    num_steps: Tensor
    start: Tensor

    def __init__(
        self,
        num_classes: int,
        settings: AdamSettings,
        *,
        start: Tensor | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Stand at the start.

        Args:
            num_classes: K.
            settings: of Adam.
            start: (K,) where psi starts, and what weight decay draws it back to; its type is
                psi's. None: zeros in float32.
            class_names: see the class.

        Raises:
            ValueError: there are not K names.
        """
        super().__init__()
        self.settings = settings
        self.class_names: list[str] | None = None
        start = torch.zeros(num_classes) if start is None else start
        self.register_buffer("psi", start.clone())
        self.register_buffer("start", start.clone(), persistent=False)
        for name in ("first_moment", "second_moment"):
            self.register_buffer(name, torch.zeros_like(start))
        self.register_buffer("num_steps", torch.zeros(num_classes, dtype=torch.int64))
        if class_names is not None:
            self.set_names(class_names)

    def __len__(self) -> int:
        return len(self.psi)

    def set_names(self, class_names: Sequence[str]) -> None:
        """Give the K classes their names.

        Raises:
            ValueError: there are not K names.
        """
        if len(class_names) != len(self):
            raise ValueError(f"Expected {len(self)} class names, but got {len(class_names)}.")
        self.class_names = list(class_names)

    def step(
        self, gradient: Tensor, *, is_updated: Tensor | None = None, origin: Tensor | None = None
    ) -> None:
        """One Adam step.

        Args:
            gradient: (K,) by psi.
            is_updated: (K,) bool, as for `adam_step`.
            origin: (K,) from which the gradient was made: names the classes that a value that is
                not finite comes from, where the gradient spreads it to others. None: the gradient.

        Raises:
            ValueError: wrong shape.
            FloatingPointError: psi would not be finite; names the classes. Psi and Adam are then
                left as they were.
        """
        if gradient.shape != self.psi.shape:
            raise ValueError(
                f"Expected a gradient of shape {tuple(self.psi.shape)}, but got "
                f"{tuple(gradient.shape)}."
            )
        gradient = gradient.detach().to(self.psi)
        gradient = gradient + self.settings.weight_decay * (self.psi - self.start)
        state = AdamState(self.first_moment, self.second_moment, self.num_steps)
        psi, state = adam_step(self.psi, gradient, state, self.settings, is_updated=is_updated)
        self._check_is_finite(psi, gradient if origin is None else origin)
        self.psi = psi
        self.first_moment, self.second_moment, self.num_steps = state

    def describe(self, is_named: Tensor) -> str:
        """The classes where (K,) bool is True, in words; at most five of them."""
        ids = is_named.nonzero().flatten().tolist()
        names = self.class_names
        shown = [str(i) if names is None else f"{i} ({names[i]})" for i in ids[:_MAX_NAMES]]
        more = ", ..." if len(ids) > _MAX_NAMES else ""
        noun = "class" if len(ids) == 1 else f"{len(ids)} classes:"
        return f"{noun} {', '.join(shown)}{more}"

    def _check_is_finite(self, psi: Tensor, origin: Tensor) -> None:
        if bool(psi.isfinite().all()):
            return
        is_origin = ~origin.isfinite()
        culprits = is_origin if bool(is_origin.any()) else ~psi.isfinite()
        raise FloatingPointError(
            "The meta step gave a class parameter psi that is not finite; it comes from "
            f"{self.describe(culprits)}. psi was left as it was and the last checkpoint is "
            f"intact; lower META.LR ({self.settings.lr:g}) or the classifier's learning rate."
        )

    def get_extra_state(self) -> dict[str, Any]:
        """The class names, to recognise a checkpoint of other classes."""
        return {"class_names": self.class_names}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Nothing to restore: the names have been compared."""

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Refuse the state of other classes, also where this is a part of another module."""
        num_saved = len(state_dict.get(f"{prefix}psi", self.psi))
        names = state_dict.get(f"{prefix}_extra_state", {}).get("class_names")
        are_others = None not in (names, self.class_names) and names != self.class_names
        if num_saved != len(self) or are_others:
            raise ValueError(
                f"Expected what was learned for this run's {len(self)} classes, but the checkpoint "
                f"has it for {num_saved} classes{' of other names' if are_others else ''}; resume "
                "with the training set of that run, or start from its weights without --resume."
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
