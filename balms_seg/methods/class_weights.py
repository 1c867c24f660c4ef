"""Cross-entropy weighted by class: automatically, or with weights by name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.methods.context import LossContext
from balms_seg.methods.settings import MethodSettings, place_of
from balms_seg.methods.softmax import Softmax

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


class ClassWeights(Softmax):
    """Cross-entropy times a weight of the row's class; background weighs 1.

    Weights are n^-power of the training instances, with mean 1 over the classes, or those given by
    name. Unlike those of `class_balanced_weighting` they are not scaled over each batch.
    """

    @dataclass(frozen=True)
    class Settings(MethodSettings):
        """The weights.

        Attributes:
            power: of 1 / n, from 0 (all alike) to 1; 0.5 is ours. Without effect where `by_name`
                has an entry.
            by_name: pairs of a class's name and its weight, such as [[zebra, 2.0], [cow, 0.5]];
                classes that are not named weigh 1.
        """

        power: float = 0.5
        by_name: tuple[tuple[str, float], ...] = ()

        def __post_init__(self) -> None:
            self.check_range("power", 0 <= self.power <= 1, "a number in [0, 1]")
            self.check_range(
                "by_name",
                all(
                    len(pair) == 2 and isinstance(pair[0], str) and 0 < float(pair[1]) < torch.inf
                    for pair in self.by_name
                ),
                "pairs of a class's name and a positive weight",
            )
            names = [name for name, _ in self.by_name]
            self.check_range("by_name", len(set(names)) == len(names), "each name once")

    needs_statistics = True
    settings: Settings

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep the weights of the classes and, for boxes, background's.

        Raises:
            ValueError: a name is of no class of the training set.
        """
        super().prepare(statistics)
        weights = None
        if statistics is not None:
            weights = self._by_name(statistics) if self.settings.by_name else self._auto(statistics)
            weights = F.pad(weights, (0, int(self.has_background)), value=1.0)
        self.keep("class_weights", weights)

    def _auto(self, statistics: ClassStatistics) -> Tensor:
        weights = torch.as_tensor(statistics.prior_counts("instance")) ** -self.settings.power
        return weights / weights.mean()

    def _by_name(self, statistics: ClassStatistics) -> Tensor:
        weights = torch.ones(self.num_classes)
        known = {each.lower(): each for each in statistics.class_names}
        for name, weight in self.settings.by_name:
            if name not in statistics.class_names:
                near = difflib.get_close_matches(name.lower(), known, n=1)
                hint = f"; did you mean {known[near[0]]!r}?" if near else "."
                raise ValueError(
                    f"Expected names of the training set's {self.num_classes} classes in "
                    f"{place_of('class_weights', 'by_name')}, but got {name!r}{hint}"
                )
            weights[statistics.class_names.index(name)] = weight
        return weights

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """Weighted cross-entropy."""
        losses = super().loss(logits, targets, context)
        return losses * self.kept("class_weights").to(losses)[targets]
