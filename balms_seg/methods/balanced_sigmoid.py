"""The sigmoid form of Balanced Softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from balms_seg.losses import balanced_sigmoid_loss
from balms_seg.methods.context import LossContext
from balms_seg.methods.sigmoid import Sigmoid

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


class BalancedSigmoid(Sigmoid):
    """Sigmoids whose foreground rows are shifted by the class frequencies.

    Source: Ren et al. 2020 (arXiv 2007.10740), supplement A.2, as released for LVIS.
    """

    needs_statistics = True

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep each class's share of the training images."""
        super().prepare(statistics)
        self.keep("frequency", None if statistics is None else statistics.frequency)

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """A row's loss is the sum of its K shifted binary cross-entropies."""
        return balanced_sigmoid_loss(logits, targets, self.kept("frequency"), reduction="none")
