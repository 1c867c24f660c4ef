"""A sigmoid for each class, without a background column."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import sigmoid_loss
from balms_seg.methods.base import Method
from balms_seg.methods.context import LossContext
from balms_seg.methods.settings import MethodSettings


class Sigmoid(Method):
    """K binary classifiers; background is the row in which none of them fires."""

    @dataclass(frozen=True)
    class Settings(MethodSettings):
        """Where the classifier starts.

        Attributes:
            prior_probability: p in the classifier's initial bias -log((1 - p) / p).
        """

        prior_probability: float = 0.001

        def __post_init__(self) -> None:
            self.check_range(
                "prior_probability", 0 < self.prior_probability < 1, "a probability in (0, 1)"
            )

    independent_scores = True
    settings: Settings

    @property
    def num_columns(self) -> int:
        """K logits: background has none."""
        return self.num_classes

    @property
    def initial_bias(self) -> float:
        """-log((1 - p) / p), so that every class starts at probability p."""
        # On the CPU also where a model is built without memory.
        start = torch.tensor(self.settings.prior_probability, dtype=torch.float64, device="cpu")
        return float(self.bias_of(start))

    def bias_of(self, probability: Tensor) -> Tensor:
        """The log-odds."""
        return torch.logit(probability)

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """A row's loss is the sum of its K binary cross-entropies."""
        return sigmoid_loss(logits, targets, reduction="none")

    def plain_loss(self, logits: Tensor, targets: Tensor) -> Tensor | None:
        """The sum of the K binary cross-entropies."""
        return sigmoid_loss(logits, targets, reduction="none")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Sigmoid scores; for boxes, a background column of zeros, as detectron2 expects one."""
        return F.pad(torch.sigmoid(logits), (0, int(self.has_background)))

    def decision_scores(self, logits: Tensor) -> Tensor:
        """For boxes, a column of zeros: background wins where every probability is below 1/2."""
        return F.pad(logits, (0, int(self.has_background)))
