"""Softmax over the classes and background, and its Balanced Softmax form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import _checks, balanced_softmax_loss_with_background
from balms_seg.methods.base import Method

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


class Softmax(Method):
    """Cross-entropy over K + 1 columns, as detectron2's own box predictor."""

    def loss(self, logits: Tensor, gt_classes: Tensor, *, reduction: str = "mean") -> Tensor:
        """Cross-entropy of each row, reduced as the losses of the other methods are."""
        rows = F.cross_entropy(_checks.widen(logits), gt_classes, reduction="none")
        return _checks.reduce_loss(rows, reduction)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax over all columns."""
        return F.softmax(logits, dim=-1)


class BalancedSoftmax(Softmax):
    """Softmax trained with Balanced Softmax; inference is the plain softmax.

    Source: Ren et al. 2020 (arXiv 2007.10740); the background's treatment is an option.
    """

    needs_statistics = True

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep the class counts that `options.prior` names ("auto": instance)."""
        counts, options = None, self.options
        self.background_count = options.background_count
        if statistics is not None:
            counts = statistics.prior_counts(
                "instance" if options.prior == "auto" else options.prior
            )
            if options.background_count is None:
                self.background_count = float(counts.sum()) * options.background_ratio
        self._register_prior("counts", counts)

    def loss(self, logits: Tensor, gt_classes: Tensor, *, reduction: str = "mean") -> Tensor:
        """Balanced Softmax loss; see `losses.balanced_softmax_loss_with_background`."""
        background = self.options.background
        return balanced_softmax_loss_with_background(
            logits,
            gt_classes,
            self._prior("counts"),
            background=background,
            background_count=self.background_count if background == "prior" else None,
            reduction=reduction,
        )
