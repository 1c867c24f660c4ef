"""Focal loss on the softmax."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from balms_seg.losses import focal_loss
from balms_seg.methods.context import LossContext
from balms_seg.methods.settings import MethodSettings
from balms_seg.methods.softmax import Softmax


class Focal(Softmax):
    """Cross-entropy times (1 - p)^gamma; background is a class like the others.

    Source: Lin et al. 2017 (arXiv 1708.02002).
    """

    @dataclass(frozen=True)
    class Settings(MethodSettings):
        """How strongly.

        Attributes:
            gamma: 0 leaves cross-entropy.
        """

        gamma: float = 1.0

        def __post_init__(self) -> None:
            self.check_range("gamma", self.gamma >= 0, "0 or more")

    settings: Settings

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """Focal loss."""
        return focal_loss(logits, targets, gamma=self.settings.gamma, reduction="none")
