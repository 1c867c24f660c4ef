"""Cross-entropy, or the focal loss, weighted by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import effective_number_weights, focal_loss, inverse_frequency_weights
from balms_seg.methods.context import LossContext
from balms_seg.methods.counting import CountingSoftmax
from balms_seg.methods.settings import MethodSettings

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics

WEIGHTED_LOSSES = ("softmax", "focal")


def weigh_rows(losses: Tensor, class_weights: Tensor, targets: Tensor) -> Tensor:
    """Losses times their class's weight, scaled to mean 1 over the rows that are of a class.

    Without background the mean is that of `F.cross_entropy(..., weight=)`, as in kaidic/LDAM-DRW.
    Background rows weigh 1.

    Args:
        losses: (R,).
        class_weights: (K,) positive; only their ratios matter.
        targets: (R,) in [0, K]; K is background.
    """
    is_foreground = targets < len(class_weights)
    weights = F.pad(class_weights.to(losses), (0, 1))[targets]
    tiny = torch.finfo(losses.dtype).tiny
    weights = weights * (is_foreground.sum() / weights.sum().clamp(min=tiny))
    return losses * torch.where(is_foreground, weights, torch.ones_like(weights))


class ClassBalancedWeighting(CountingSoftmax):
    """Cross-entropy weighted by 1 / n."""

    rows_are_independent = False  # the weights are scaled over the batch

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep the class weights."""
        super().prepare(statistics)
        weights = None
        if statistics is not None:
            weights = self._class_weights(torch.as_tensor(statistics.prior_counts("instance")))
        self.keep("class_weights", weights)

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """Weighted losses."""
        losses = self._unweighted(logits, targets, context)
        return weigh_rows(losses, self.kept("class_weights"), targets)

    def _class_weights(self, counts: Tensor) -> Tensor:
        return inverse_frequency_weights(counts)

    def _unweighted(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        return super().loss(logits, targets, context)


class CBLoss(ClassBalancedWeighting):
    """Class-Balanced loss: weighted by the inverse effective number of samples.

    Departs from the authors' code, richardaecn/class-balanced-loss, in two ways: that divides the
    weighted sum by the number of rows, not by their weights; its focal form is of sigmoids.

    Source: Cui et al. 2019 (arXiv 1901.05555).
    """

    @dataclass(frozen=True)
    class Settings(MethodSettings):
        """What is weighted, and how strongly.

        Attributes:
            loss: softmax | focal.
            beta: 0 weighs all classes the same, towards 1 the weights become 1 / n.
            gamma: of the focal loss.
        """

        loss: str = "softmax"
        beta: float = 0.9999
        gamma: float = 1.0

        def __post_init__(self) -> None:
            self.check_choice("loss", WEIGHTED_LOSSES)
            self.check_range("beta", 0 <= self.beta < 1, "a number in [0, 1)")
            self.check_range("gamma", self.gamma >= 0, "0 or more")

    settings: Settings

    def _class_weights(self, counts: Tensor) -> Tensor:
        return effective_number_weights(counts, beta=self.settings.beta)

    def _unweighted(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        gamma = self.settings.gamma if self.settings.loss == "focal" else 0.0
        return focal_loss(logits, targets, gamma=gamma, reduction="none")
