"""Gumbel Optimized Loss: DropLoss with the distribution function of Gumbel for a sigmoid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import _checks
from balms_seg.methods.droploss import DropLoss
from balms_seg.methods.entries import positive_entries

_LOWEST, _HIGHEST = -4.0, 10.0  # logits that the loss tells apart


class GOL(DropLoss):
    """DropLoss on p = exp(-exp(-z)), which is slow to reach 0 for a positive entry to correct.

    Departs from the release in the classifier's weights: normal with deviation 0.01 instead of all
    0.001, with which no two classes differ at first.

    Source: Alexandridis et al. 2022 (arXiv 2207.10936); kostas1515/GOL: droploss.py.
    """

    @dataclass(frozen=True)
    class Settings(DropLoss.Settings):
        """As those of `DropLoss`.

        Attributes:
            prior_probability: p in the classifier's initial bias -log(-log p); the default is that
                of -2.
            threshold: lambda.
        """

        prior_probability: float = math.exp(-math.exp(2))
        threshold: float = 0.0011

    settings: Settings

    def bias_of(self, probability: Tensor) -> Tensor:
        """-log(-log p)."""
        return -(-probability.log()).log()

    def plain_loss(self, logits: Tensor, targets: Tensor) -> Tensor | None:
        """All entries count."""
        return self._terms(logits, positive_entries(logits, targets)).sum(dim=1)

    def _terms(self, logits: Tensor, is_positive: Tensor) -> Tensor:
        logits = _checks.widen(logits).clamp(_LOWEST, _HIGHEST)
        # The gradient is the release's down to where torch bounds it, at p (1 - p) < 1e-12.
        with torch.autocast(logits.device.type, enabled=False):
            scores = torch.exp(-torch.exp(-logits))
            return F.binary_cross_entropy(scores, is_positive.to(logits), reduction="none")

    def probabilities(self, logits: Tensor) -> Tensor:
        """exp(-exp(-z)); for boxes, a background column of zeros, as detectron2 expects one."""
        scores = torch.exp(-torch.exp(-_checks.widen(logits)))
        return F.pad(scores, (0, int(self.has_background)))

    def decision_scores(self, logits: Tensor) -> Tensor:
        """For boxes, 1/2 in the last column: background wins where every probability is below."""
        scores = torch.exp(-torch.exp(-_checks.widen(logits)))
        return F.pad(scores, (0, int(self.has_background)), value=0.5)
