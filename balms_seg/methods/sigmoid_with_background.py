"""What methods share that have a sigmoid for background beside those of the classes."""

from __future__ import annotations

import torch
from torch import Tensor

from balms_seg.methods.entries import binary_terms, positive_entries
from balms_seg.methods.sigmoid import Sigmoid


class SigmoidWithBackground(Sigmoid):
    """A sigmoid for each class, and for boxes one for background.

    A class's score is its probability times that of not being background.
    """

    @property
    def num_columns(self) -> int:
        """K, and for boxes one for background."""
        return self.num_classes + self.has_background

    def plain_loss(self, logits: Tensor, targets: Tensor) -> Tensor | None:
        """The sum of the binary cross-entropies, background's among them."""
        return binary_terms(logits, positive_entries(logits, targets)).sum(dim=1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Sigmoid scores; for boxes times 1 - p(background), and p(background) last."""
        scores = torch.sigmoid(logits)
        if not self.has_background:
            return scores
        classes, background = scores[:, :-1], scores[:, -1:]
        return torch.cat([classes * (1 - background), background], dim=1)

    def decision_scores(self, logits: Tensor) -> Tensor:
        """The scores: the background's column takes part."""
        return self.probabilities(logits)
