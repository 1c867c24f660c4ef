"""What a loss may know beside logits and targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


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
        columns: (R, K) bool, classes that are known to be absent from the row's image or annotated
            in it; None: all of them. The others' entries say nothing (partial labels).
        generator: on the CPU, keyed by the global batch: draws of one shape agree on all ranks, and
            a resumed run repeats them.
    """

    features: Tensor | None = None
    progress: TrainingProgress | None = None
    columns: Tensor | None = None
    generator: torch.Generator | None = None

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
                f"LossContext({name}=...), as this package's models do in a run."
            )
        return value
