"""The gradients that a class's positive and negative entries have had: state of EFL and EQLv2."""

from __future__ import annotations

import torch
from torch import Tensor

from balms_seg.distributed import sum_over_ranks
from balms_seg.methods.settings import MethodSettings
from balms_seg.methods.sigmoid import Sigmoid


class CollectedGradients(Sigmoid):
    """Adds up the entries' gradients, over batches and ranks."""

    has_state = True
    positive_gradients: Tensor
    negative_gradients: Tensor

    def __init__(
        self, num_classes: int, *, has_background: bool, settings: MethodSettings | None = None
    ) -> None:
        """Start without gradients."""
        super().__init__(num_classes, has_background=has_background, settings=settings)
        for name in ("positive_gradients", "negative_gradients"):
            self.add_state(name, torch.zeros(num_classes, dtype=torch.float64))

    def gradient_ratio(self, *, at_start: float) -> Tensor:
        """(K,) positive over negative gradients; `at_start` where there were none yet."""
        seen = self.positive_gradients + self.negative_gradients > 0
        ratio = self.positive_gradients / (self.negative_gradients + 1e-10)
        return torch.where(seen, ratio, torch.full_like(ratio, at_start))

    @torch.no_grad()
    def collect(self, gradients: Tensor, is_positive: Tensor) -> None:
        """Add a batch's, of all ranks.

        Args:
            gradients: (R, C) absolute values, by each logit.
            is_positive: (R, C) bool.
        """
        by_sign = [(gradients * is_positive).sum(dim=0), (gradients * ~is_positive).sum(dim=0)]
        total = sum_over_ranks(torch.stack(by_sign)[:, self.foreground_columns].double())
        self.positive_gradients += total[0]
        self.negative_gradients += total[1]
