"""What a loss may know beside logits and targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_LOWEST = -1e4  # exp is 0 in every dtype, and half precision holds it


@dataclass(frozen=True)
class TrainingProgress:
    """How far training is, for losses that change on the way.

    Attributes:
        iteration: from 0.
        max_iter: iterations of the run.
        images_per_batch: over all ranks.
    """

    iteration: int
    max_iter: int
    images_per_batch: int


@dataclass(frozen=True, eq=False)
class LossContext:
    """What is known of R rows; a method that reads what is None here says so.

    Attributes:
        features: (R, D) input of the classifier, with its graph.
        progress: how far training is.
        columns: (R, K) bool, classes that were looked for in the row's image; None: all of them. Of
            the others it is not known whether they are there (partial labels): `without_unknown`
            takes their entries out before any method sees the logits.
        generator: on the CPU, keyed by the global batch: draws of one shape agree on all ranks, and
            a resumed run repeats them.
    """

    features: Tensor | None = None
    progress: TrainingProgress | None = None
    columns: Tensor | None = None
    generator: torch.Generator | None = None

    def without_unknown(self, logits: Tensor, targets: Tensor, foreground: slice) -> Tensor:
        """Logits that say nothing of classes outside `columns`, but for each row's own.

        Their entries are so low that a softmax leaves them out of its denominator, and a sigmoid's
        term is 0; they get no gradient.

        Args:
            logits: (R, C).
            targets: (R,) int64; K is background.
            foreground: columns of the K classes.
        """
        if self.columns is None:
            return logits
        is_unknown = torch.zeros_like(logits, dtype=torch.bool)
        is_unknown[:, foreground] = ~self.known_entries(logits[:, foreground], targets)
        return logits.masked_fill(is_unknown, _LOWEST)

    def known_entries(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(R, K) bool: classes in `columns`, and each row's own.

        Args:
            logits: (R, K) of the classes.
            targets: (R,) int64; K is background.
        """
        if self.columns is None:
            return torch.ones_like(logits, dtype=torch.bool)
        own = torch.arange(logits.shape[1], device=targets.device) == targets[:, None]
        return self.columns | own

    def needed(self, name: str, reader: object) -> Any:
        """What the context has under a name.

        Args:
            name: of an attribute.
            reader: the method that reads it.

        Raises:
            ValueError: it has none.
        """
        value = getattr(self, name)
        if value is None:
            raise ValueError(
                f"The loss of {type(reader).__name__} reads {name}, but got none; give it "
                f"LossContext({name}=...), as this package's models do in a run (progress: of the "
                "`schedule` that replace_box_classifier takes)."
            )
        return value
