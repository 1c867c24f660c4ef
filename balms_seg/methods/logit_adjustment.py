"""Logit adjustment, in training or at test time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import balanced_softmax_loss_with_background, logit_adjusted_loss
from balms_seg.methods.calibration import logit_adjustment_log_weights
from balms_seg.methods.context import LossContext
from balms_seg.methods.counting import CountingSoftmax
from balms_seg.methods.settings import MethodSettings

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


class LogitAdjustment(CountingSoftmax):
    """Cross-entropy on z_j + tau log pi_j, pi the class shares; inference is the plain softmax.

    The source has no background. For boxes the classes are adjusted among each other, given that
    the row is of one of them: the `factored` form of Balanced Softmax, with n_j^tau for counts.

    Source: Menon et al. 2021 (arXiv 2007.07314).
    """

    @dataclass(frozen=True)
    class Settings(MethodSettings):
        """How strongly.

        Attributes:
            tau: 0 leaves cross-entropy; at 1 it is Balanced Softmax.
        """

        tau: float = 1.0

    settings: Settings

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep the counts, and what takes their place beside background."""
        super().prepare(statistics)
        counts = None if statistics is None else self.kept("counts")
        powers = None if counts is None else (counts / counts.mean()) ** self.settings.tau
        self.keep("powers", powers)

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """Logit-adjusted loss, with or without background."""
        if not self.has_background:
            counts, tau = self.kept("counts"), self.settings.tau
            return logit_adjusted_loss(logits, targets, counts, tau=tau, reduction="none")
        return balanced_softmax_loss_with_background(
            logits, targets, self.kept("powers"), background="factored", reduction="none"
        )


class PostHocLogitAdjustment(CountingSoftmax):
    """Cross-entropy in training; the classes' logits are adjusted at test time.

    Needs no training of its own: evaluate a softmax checkpoint with it. Background's logit, where
    there is one, stays.

    Source: Menon et al. 2021 (arXiv 2007.07314), without the 1e-12 of the authors' code, see
    `logit_adjusted_loss`.
    """

    Settings = LogitAdjustment.Settings
    settings: LogitAdjustment.Settings

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax of z - tau log pi."""
        adjustment = logit_adjustment_log_weights(self.kept("counts"), tau=self.settings.tau)
        adjustment = F.pad(adjustment, (0, int(self.has_background)))
        return F.softmax(logits.float() + adjustment, dim=-1)

    def decision_scores(self, logits: Tensor) -> Tensor:
        """The adjusted probabilities."""
        return self.probabilities(logits)
