"""Equalization Loss v2: each class's positives and negatives weigh by the gradients so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import _checks
from balms_seg.methods.collected_gradients import CollectedGradients
from balms_seg.methods.context import LossContext
from balms_seg.methods.entries import binary_terms, positive_entries
from balms_seg.methods.sigmoid_with_background import SigmoidWithBackground

_START = 100.0  # of the ratio: all weights 1


class EQLv2(CollectedGradients, SigmoidWithBackground):
    """Sigmoids of the classes, and for boxes one for background, which weighs 1.

    With g_j the ratio of the gradients that class j's positive and negative entries have had,
    negatives weigh sigmoid(gamma (g_j - mu)) and positives 1 + alpha (1 - that).

    Source: Tan et al. 2021 (arXiv 2012.08548); tztztztztz/eqlv2: eqlv2.py.
    """

    @dataclass(frozen=True)
    class Settings(SigmoidWithBackground.Settings):
        """How the ratio becomes weights, and where the classifier starts.

        Attributes:
            prior_probability: p in the classifier's initial bias -log((1 - p) / p).
            gamma: steepness.
            mu: ratio at which negatives weigh 1/2.
            alpha: what positives gain at most.
        """

        gamma: float = 12.0
        mu: float = 0.8
        alpha: float = 4.0

        def __post_init__(self) -> None:
            super().__post_init__()
            for name in ("gamma", "alpha"):
                self.check_range(name, getattr(self, name) >= 0, "0 or more")

    settings: Settings

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """A row's loss is the weighted sum of its binary cross-entropies."""
        is_positive = positive_entries(logits, targets)
        return binary_terms(logits, is_positive, self._entry_weights(logits, is_positive)).sum(1)

    def training_loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """As `loss`; afterwards the batch's gradients, of all ranks, are added up."""
        is_positive = positive_entries(logits, targets)
        weights = self._entry_weights(logits, is_positive)
        self._collect(logits.detach(), is_positive, weights)
        return binary_terms(logits, is_positive, weights).sum(dim=1)

    @torch.no_grad()
    def _entry_weights(self, logits: Tensor, is_positive: Tensor) -> Tensor:
        """(R, C) weights that the gradients up to now mean."""
        settings, ratio = self.settings, self.gradient_ratio(at_start=_START)
        negative = torch.sigmoid(settings.gamma * (ratio - settings.mu)).to(_checks.widen(logits))
        negative = F.pad(negative, (0, int(self.has_background)), value=1.0)
        return torch.where(is_positive, 1 + settings.alpha * (1 - negative), negative)

    @torch.no_grad()
    def _collect(self, logits: Tensor, is_positive: Tensor, weights: Tensor) -> None:
        logits = _checks.widen(logits)
        gradients = weights * (torch.sigmoid(logits) - is_positive.to(logits)).abs()
        self.collect(gradients, is_positive)
