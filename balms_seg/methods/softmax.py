"""Cross-entropy over all columns."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import _checks
from balms_seg.losses._cross_entropy import shifted_cross_entropy
from balms_seg.methods.base import Method
from balms_seg.methods.context import LossContext


class Softmax(Method):
    """Softmax over the classes and, for boxes, background, as detectron2's own box predictor."""

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(_checks.widen(logits), targets, reduction="none")

    def plain_loss(self, logits: Tensor, targets: Tensor) -> Tensor | None:
        """Cross-entropy: Balanced Softmax without a shift, whose kernel is the faster one."""
        _checks.check_logits_and_targets(logits, targets)
        logits = _checks.widen(logits)
        return shifted_cross_entropy(logits, targets, logits.new_zeros(logits.shape[1]))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax over all columns."""
        return F.softmax(logits, dim=-1)

    def decision_scores(self, logits: Tensor) -> Tensor:
        """The logits, which have the same order."""
        return logits
