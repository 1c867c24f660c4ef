"""Seesaw loss: negatives of a rare class are softened by how many samples were seen so far.

K classes share a softmax; for boxes two more columns, foreground and background, say whether there
is an object at all, and a class's score is the product.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.distributed import sum_over_ranks
from balms_seg.losses import _checks
from balms_seg.methods.base import Method
from balms_seg.methods.context import LossContext
from balms_seg.methods.settings import MethodSettings


class Seesaw(Method):
    """Cross-entropy on z_j + log(M_yj C_yj), made for a classifier of cosines.

    M = min(1, (N_j / N_y)^p) is the mitigation by the samples N seen so far, the batch included;
    C = max(1, (s_j / s_y)^q) the compensation where class j has the higher score s. Both constants.

    Source: Wang et al. 2021 (arXiv 2008.10032); open-mmlab/mmdetection: seesaw_loss.py.
    """

    @dataclass(frozen=True)
    class Settings(MethodSettings):
        """The two factors.

        Attributes:
            p: of the mitigation factor; 0: none.
            q: of the compensation factor; 0: none.
            min_score: smallest own score s_y that the compensation divides by.
        """

        p: float = 0.8
        q: float = 2.0
        min_score: float = 0.01

        def __post_init__(self) -> None:
            for name in ("p", "q"):
                self.check_range(name, getattr(self, name) >= 0, "0 or more")
            self.check_range("min_score", 0 < self.min_score <= 1, "a score in (0, 1]")

    has_state = True
    classifier_kind = "cosine"
    settings: Settings
    counts: Tensor

    def __init__(
        self, num_classes: int, *, has_background: bool, settings: MethodSettings | None = None
    ) -> None:
        """Start without a sample."""
        super().__init__(num_classes, has_background=has_background, settings=settings)
        self.add_state("counts", torch.zeros(num_classes, dtype=torch.int64))

    @property
    def num_columns(self) -> int:
        """K classes, and for boxes foreground and background."""
        return self.num_classes + 2 * self.has_background

    def training_loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """Count the batch, on all ranks, and compute its loss."""
        batch = self.counts.new_zeros(self.num_classes + 1)
        batch.index_add_(0, targets, torch.ones_like(targets))  # bincount would stall a GPU
        self.counts += sum_over_ranks(batch[: self.num_classes])
        return self.loss(logits, targets, context)

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """Loss with the counts as they are."""
        classes = _checks.widen(logits[:, self.foreground_columns])
        own = targets.clamp(max=self.num_classes - 1)  # background rows are left out below
        return self._with_objectness(classes + self._shift(classes, own), logits, targets)

    def plain_loss(self, logits: Tensor, targets: Tensor) -> Tensor | None:
        """Neither mitigation nor compensation."""
        return self._with_objectness(logits[:, self.foreground_columns], logits, targets)

    @torch.no_grad()
    def _shift(self, classes: Tensor, own: Tensor) -> Tensor:
        """(R, K) logarithm of M C for rows of the classes `own`; 0 in their columns."""
        log_counts = self.counts.clamp(min=1).to(classes).log()
        mitigation = (log_counts - log_counts[own][:, None]).clamp(max=0)
        scores = classes.softmax(dim=1)
        own_score = scores.gather(1, own[:, None]).clamp(min=self.settings.min_score)
        compensation = (scores / own_score).clamp(min=1).log()
        return self.settings.p * mitigation + self.settings.q * compensation

    def _with_objectness(self, classes: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        """(R,) cross-entropy among (R, K) class logits, of foreground rows, and of objectness."""
        own = targets.clamp(max=self.num_classes - 1)
        losses = F.cross_entropy(_checks.widen(classes), own, reduction="none")
        if not self.has_background:
            return losses
        is_background = targets == self.num_classes
        objectness = _checks.widen(logits[:, self.num_classes :])
        losses = torch.where(is_background, torch.zeros_like(losses), losses)
        return losses + F.cross_entropy(objectness, is_background.long(), reduction="none")

    def prior_bias(self, shares: Tensor, foreground: float) -> Tensor:
        """As of two softmaxes: of the classes among each other, and of objectness."""
        objectness = shares.new_tensor([foreground, 1 - foreground] * self.has_background)
        return self.bias_of(torch.cat([shares, objectness]))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax over the classes; for boxes times p(foreground), and p(background) last."""
        classes = logits[:, : self.num_classes].softmax(dim=1)
        if not self.has_background:
            return classes
        foreground, background = logits[:, self.num_classes :].softmax(dim=1).split(1, dim=1)
        return torch.cat([classes * foreground, background], dim=1)
