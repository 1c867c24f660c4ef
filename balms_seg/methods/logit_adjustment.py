"""Logit adjustment, in training or at test time."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import balanced_softmax_loss_with_background, logit_adjusted_loss
from balms_seg.methods.calibration import logit_adjustment_log_weights
from balms_seg.methods.context import LossContext
from balms_seg.methods.counting import CountingSoftmax
from balms_seg.methods.settings import MethodSettings


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

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """Logit-adjusted loss, with or without background."""
        counts, tau = self.kept("counts"), self.settings.tau
        if not self.has_background:
            return logit_adjusted_loss(logits, targets, counts, tau=tau, reduction="none")
        powers = (counts / counts.mean()) ** tau
        return balanced_softmax_loss_with_background(
            logits, targets, powers, background="factored", reduction="none"
        )


class PostHocLogitAdjustment(CountingSoftmax):
    """Cross-entropy in training; the classes' logits are adjusted at test time.

    Needs no training of its own: evaluate a softmax checkpoint with it. Background's logit, where
    there is one, stays.
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
