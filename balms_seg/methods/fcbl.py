"""Foreground Classification Balance Loss: margins by how often two classes were confused so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.distributed import sum_over_ranks
from balms_seg.losses import _checks
from balms_seg.methods.context import LossContext
from balms_seg.methods.entries import binary_terms, positive_entries
from balms_seg.methods.settings import MethodSettings
from balms_seg.methods.sigmoid_with_background import SigmoidWithBackground

_LOWEST_SHARE = 1e-3


class FCBL(SigmoidWithBackground):
    """On foreground rows of class y, z_j gets alpha log(C_yj / C_jy).

    C_yj is the mean of class j's softmax score, among the classes, over the foreground rows of
    class y so far. Rows of class y then count the entries that are at fault only: those whose score
    is at least y's or the threshold, and background's.

    The feature hallucination of the source (BACL) is not here.

    Source: Qi et al. 2023 (arXiv 2308.02213); Tianhao-Qi/BACL: fcbl.py.
    """

    @dataclass(frozen=True)
    class Settings(SigmoidWithBackground.Settings):
        """Margins, entries that count, and where the classifier starts.

        Attributes:
            prior_probability: p in the classifier's initial bias -log((1 - p) / p).
            alpha: of the margins; 0: none. The release has 0.85 on LVIS v1.
            reweigh: whether foreground rows count the entries at fault only.
            threshold: score from which on an entry always counts.
        """

        alpha: float = 1.0
        reweigh: bool = True
        threshold: float = 0.7

        def __post_init__(self) -> None:
            super().__post_init__()
            self.check_range("alpha", self.alpha >= 0, "0 or more")
            self.check_range("threshold", 0 < self.threshold < 1, "a score in (0, 1)")

    has_state = True
    settings: Settings
    confusion: Tensor
    rows: Tensor

    def __init__(
        self, num_classes: int, *, has_background: bool, settings: MethodSettings | None = None
    ) -> None:
        """Start without a row: no two classes were confused, and no margin differs from 0."""
        super().__init__(num_classes, has_background=has_background, settings=settings)
        self.add_state("confusion", torch.zeros(num_classes, num_classes, dtype=torch.float64))
        self.add_state("rows", torch.zeros(num_classes, dtype=torch.float64))

    def training_loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """As `loss`; afterwards the batch's scores, of all ranks, are added up."""
        losses = self.loss(logits, targets, context)
        self._collect(logits.detach(), targets)
        return losses

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """A row's loss is the sum of the binary cross-entropies that count."""
        is_positive = positive_entries(logits, targets)
        terms = binary_terms(_checks.widen(logits) + self._margins(logits, targets), is_positive)
        if not self.settings.reweigh:
            return terms.sum(dim=1)
        return terms.masked_fill(~self._counting(logits.detach(), targets), 0.0).sum(dim=1)

    @torch.no_grad()
    def _margins(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(R, C) margins of the confusions up to now; 0 in background's row and column."""
        shares = self.confusion / self.rows.clamp(min=1)[:, None]
        log_shares = shares.clamp(min=_LOWEST_SHARE).log()
        margins = self.settings.alpha * (log_shares - log_shares.T)
        margins = F.pad(margins, (0, self.num_columns - self.num_classes, 0, 1))
        return margins.to(_checks.widen(logits))[targets]

    def _counting(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(R, C) bool: all of background rows; of the others entries at fault and background's."""
        scores = self.probabilities(_checks.widen(logits))
        is_background = (targets == self.num_classes)[:, None]
        own = scores.gather(1, targets.clamp(max=self.num_classes - 1)[:, None])
        counting = (scores >= own) | (scores >= self.settings.threshold) | is_background
        counting[:, self.num_classes :] = True
        return counting

    @torch.no_grad()
    def _collect(self, logits: Tensor, targets: Tensor) -> None:
        classes = _checks.widen(logits)[:, self.foreground_columns]
        is_own = positive_entries(classes, targets).to(classes)
        scores = sum_over_ranks(is_own.T @ classes.softmax(dim=1))
        self.confusion += scores
        self.rows += sum_over_ranks(is_own.sum(dim=0))
