"""Logit Normalization: scores from logits in units of each class's own spread."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.distributed import sum_over_ranks
from balms_seg.methods.context import LossContext
from balms_seg.methods.settings import MethodSettings
from balms_seg.methods.softmax import Softmax


class LogN(Softmax):
    """Softmax of (z_j - m_j + min m) / sqrt(v_j); background's logit stays.

    m_j and v_j are running mean and variance of the logits over all proposals (or images) trained
    on. Post-hoc: a softmax checkpoint is run over the training set once, with a learning rate of 0.

    Departs from the release: its loss is of normalised logits, which moves nothing at that rate,
    and here it is the plain cross-entropy; and the statistics are of all ranks.

    Source: Zhao et al. 2024 (arXiv 2203.17020); MCG-NJU/LogN: logit_norm_head.py.
    """

    @dataclass(frozen=True)
    class Settings(MethodSettings):
        """How fast the statistics follow.

        Attributes:
            momentum: weight of a batch in the running mean and variance; 5e-5 in the release's
                epoch of 25,000 iterations.
        """

        momentum: float = 1e-4

        def __post_init__(self) -> None:
            self.check_range("momentum", 0 < self.momentum <= 1, "a share in (0, 1]")

    has_state = True
    settings: Settings
    mean: Tensor
    variance: Tensor

    def __init__(
        self, num_classes: int, *, has_background: bool, settings: MethodSettings | None = None
    ) -> None:
        """Start with mean 0 and variance 1: the plain softmax."""
        super().__init__(num_classes, has_background=has_background, settings=settings)
        self.add_state("mean", torch.zeros(self.num_classes, dtype=torch.float64))
        self.add_state("variance", torch.ones(self.num_classes, dtype=torch.float64))

    def training_loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """Cross-entropy; the batch's logits, of all ranks, enter the statistics."""
        self._collect(logits.detach(), targets, context)
        return self.loss(logits, targets, context)

    @torch.no_grad()
    def _collect(self, logits: Tensor, targets: Tensor, context: LossContext) -> None:
        values = logits[:, self.foreground_columns].double()
        is_known = context.known_entries(values, targets)
        values = values * is_known
        sums = sum_over_ranks(torch.stack([is_known.double(), values, values**2]).sum(dim=1))
        count, mean, square = sums[0], sums[1] / sums[0].clamp(min=1), sums[2]
        variance = (square - count * mean**2) / (count - 1).clamp(min=1)
        momentum = self.settings.momentum * (count > 0)  # a class without a row keeps its own
        self.mean += momentum * (mean - self.mean)
        self.variance += momentum * (variance - self.variance)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax of the normalised logits."""
        return F.softmax(self.decision_scores(logits), dim=-1)

    def decision_scores(self, logits: Tensor) -> Tensor:
        """The normalised logits, which have the same order."""
        shift, deviation = self.mean - self.mean.min(), self.variance.clamp(min=1e-11).sqrt()
        normalised = (logits[:, self.foreground_columns] - shift) / deviation
        return torch.cat([normalised.to(logits), logits[:, self.num_classes :]], dim=1)
