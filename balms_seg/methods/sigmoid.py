"""Independent sigmoids without a background column, and their Balanced Softmax form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import balanced_sigmoid_loss, sigmoid_loss
from balms_seg.methods.base import Method

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


class Sigmoid(Method):
    """K binary classifiers; background is the row in which none of them fires."""

    independent_scores = True

    @property
    def num_columns(self) -> int:
        """K logits: background has none."""
        return self.num_classes

    @property
    def initial_bias(self) -> float:
        """-log((1 - p) / p), so that every class starts at probability p."""
        probability = self.options.sigmoid_prior_probability
        return -math.log((1 - probability) / probability)

    def loss(self, logits: Tensor, gt_classes: Tensor, *, reduction: str = "mean") -> Tensor:
        """A proposal's loss is the sum of its K binary cross-entropies."""
        return sigmoid_loss(logits, gt_classes, reduction=reduction)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Sigmoid scores, and a background column of zeros as detectron2 expects one."""
        return F.pad(torch.sigmoid(logits), (0, 1))

    def decision_scores(self, logits: Tensor) -> Tensor:
        """A background column of zeros: background wins where every probability is below 1/2."""
        return F.pad(logits, (0, 1))


class BalancedSigmoid(Sigmoid):
    """Sigmoids whose foreground rows are shifted by the class frequencies.

    Source: Ren et al. 2020 (arXiv 2007.10740), supplement A.2, as released for LVIS.
    """

    needs_statistics = True

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep each class's share of the training images."""
        if self.options.prior not in ("auto", "image"):
            raise ValueError(
                f"Expected prior 'image' for balanced_sigmoid, but got {self.options.prior!r}; it "
                "needs the share of training images per class."
            )
        self._register_prior("frequency", None if statistics is None else statistics.frequency)

    def loss(self, logits: Tensor, gt_classes: Tensor, *, reduction: str = "mean") -> Tensor:
        """A proposal's loss is the sum of its K shifted binary cross-entropies."""
        frequency = self._prior("frequency")
        return balanced_sigmoid_loss(logits, gt_classes, frequency, reduction=reduction)
