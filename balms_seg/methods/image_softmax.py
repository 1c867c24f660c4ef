"""Softmax over the classes of whole images, and its Balanced Softmax and logit-adjusted forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import _checks, balanced_softmax_loss, logit_adjusted_loss
from balms_seg.methods.calibration import logit_adjustment_log_weights
from balms_seg.methods.image_base import ImageMethod, TrainingProgress

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


class ImageSoftmax(ImageMethod):
    """Cross-entropy."""

    def row_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        features: Tensor | None,
        progress: TrainingProgress | None,
    ) -> Tensor:
        """(B,) cross-entropies."""
        return F.cross_entropy(_checks.widen(logits), labels, reduction="none")


class CountingImageMethod(ImageSoftmax):
    """A method that knows how many training images each class has."""

    needs_statistics = True

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep the image counts."""
        counts = None if statistics is None else statistics.prior_counts("image")
        self._register_prior("counts", counts)


class ImageBalancedSoftmax(CountingImageMethod):
    """Balanced Softmax on the training set's counts; inference is the plain softmax.

    Source: Ren et al. 2020 (arXiv 2007.10740).
    """

    def row_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        features: Tensor | None,
        progress: TrainingProgress | None,
    ) -> Tensor:
        """(B,) Balanced Softmax losses."""
        return balanced_softmax_loss(logits, labels, self._prior("counts"), reduction="none")


class ImageLogitAdjustment(CountingImageMethod):
    """Logit adjustment in training; inference is the plain softmax."""

    def row_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        features: Tensor | None,
        progress: TrainingProgress | None,
    ) -> Tensor:
        """(B,) logit-adjusted losses."""
        tau = self.options.logit_adjustment_tau
        counts = self._prior("counts")
        return logit_adjusted_loss(logits, labels, counts, tau=tau, reduction="none")


class ImagePostHocLogitAdjustment(CountingImageMethod):
    """Cross-entropy in training; the logits are adjusted at test time.

    Needs no training of its own: evaluate a softmax checkpoint with it.
    """

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax of z - tau log pi."""
        tau = self.options.logit_adjustment_tau
        adjustment = logit_adjustment_log_weights(self._prior("counts"), tau=tau)
        return F.softmax(logits.float() + adjustment, dim=-1)
