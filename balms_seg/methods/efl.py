"""Equalized Focal Loss: the focal loss with an exponent by class, from the gradients so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import _checks
from balms_seg.methods.collected_gradients import CollectedGradients
from balms_seg.methods.context import LossContext
from balms_seg.methods.entries import binary_terms, positive_entries


class EFL(CollectedGradients):
    """Sigmoids, each with the focal loss (gamma_j / gamma) (1 - p_t)^gamma_j.

    gamma_j = gamma + scale (1 - g_j), with g_j the ratio, at most 1, of the gradients that class
    j's positive and negative entries have had; 1 before the first batch.

    Made for one-stage detectors, whose loss is divided by the number of positives. Here it is the
    mean over the proposals, as all losses of box heads.

    Source: Li et al. 2022 (arXiv 2201.02593); ModelTC/United-Perception: efl.py.
    """

    @dataclass(frozen=True)
    class Settings(CollectedGradients.Settings):
        """The focal loss, and where the classifier starts.

        Attributes:
            prior_probability: p in the classifier's initial bias -log((1 - p) / p).
            gamma: exponent of a class whose positives and negatives are in balance.
            scale: s, what the exponent of the most unbalanced class is larger by.
            alpha: weight of positive entries; negative ones have 1 - alpha.
        """

        gamma: float = 2.0
        scale: float = 8.0
        alpha: float = 0.25

        def __post_init__(self) -> None:
            super().__post_init__()
            self.check_range("gamma", self.gamma > 0, "a number above 0")
            self.check_range("scale", self.scale >= 0, "0 or more")
            self.check_range("alpha", 0 < self.alpha < 1, "a number in (0, 1)")

    settings: Settings

    @property
    def ratio(self) -> Tensor:
        """(K,) g_j."""
        return self.gradient_ratio(at_start=1).clamp(max=1)

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """A row's loss is the sum of its focal losses."""
        return self._terms(logits, targets, self._exponents(logits)).sum(dim=1)

    def training_loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """As `loss`; afterwards the batch's gradients, of all ranks, are added up."""
        exponents = self._exponents(logits)
        self._collect(logits.detach(), targets, exponents)
        return self._terms(logits, targets, exponents).sum(dim=1)

    def plain_loss(self, logits: Tensor, targets: Tensor) -> Tensor | None:
        """The focal loss: every exponent is gamma."""
        gamma = torch.full_like(self.ratio, self.settings.gamma).to(_checks.widen(logits))
        return self._terms(logits, targets, gamma).sum(dim=1)

    @torch.no_grad()
    def _exponents(self, logits: Tensor) -> Tensor:
        exponents = self.settings.gamma + self.settings.scale * (1 - self.ratio)
        return exponents.to(_checks.widen(logits))

    def _entry_weights(self, is_positive: Tensor, exponents: Tensor) -> Tensor:
        alpha = torch.where(is_positive, self.settings.alpha, 1 - self.settings.alpha)
        return alpha * exponents / self.settings.gamma

    def _terms(self, logits: Tensor, targets: Tensor, exponents: Tensor) -> Tensor:
        is_positive = positive_entries(logits, targets)
        logits = _checks.widen(logits)
        wrong = torch.sigmoid(torch.where(is_positive, -logits, logits))  # 1 - p_t
        weights = self._entry_weights(is_positive, exponents)
        return weights * wrong**exponents * binary_terms(logits, is_positive)

    @torch.no_grad()
    def _collect(self, logits: Tensor, targets: Tensor, exponents: Tensor) -> None:
        is_positive = positive_entries(logits, targets)
        logits = _checks.widen(logits)
        signed = torch.where(is_positive, -logits, logits)
        wrong, entropy = torch.sigmoid(signed), F.softplus(signed)  # 1 - p_t, -log p_t
        # d/dx of wrong^gamma entropy, x = signed: wrong' = wrong (1 - wrong), entropy' = wrong
        slope = wrong**exponents * (exponents * (1 - wrong) * entropy + wrong)
        self.collect(self._entry_weights(is_positive, exponents) * slope, is_positive)
