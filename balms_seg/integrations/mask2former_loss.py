"""Balanced Softmax in Hugging Face's Mask2Former. Q: queries; K: classes; "no object" is last."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.integrations.prior_shift import shifted, softmax_shift
from balms_seg.requirements import require

require("transformers", "BalancedMask2FormerLoss")
from transformers.models.mask2former.modeling_mask2former import (  # noqa: E402
    Mask2FormerLoss,
)


class BalancedMask2FormerLoss(Mask2FormerLoss):
    """Mask2Former's loss with Balanced Softmax on the queries that are matched with an object.

    Put it in place: `model.criterion = BalancedMask2FormerLoss(model.config, model.weight_dict,
    counts)`.
    """

    shift: Tensor

    def __init__(self, config: Any, weight_dict: dict[str, float], counts: Tensor) -> None:
        """As Mask2Former's.

        Args:
            config: of the model.
            weight_dict: of the model.
            counts: (K,) positive training instances per class, in the order of the labels.
        """
        super().__init__(config, weight_dict)
        self.register_buffer("shift", F.pad(softmax_shift(counts), (0, 1)), persistent=False)

    def loss_labels(
        self, class_queries_logits: Tensor, class_labels: list[Tensor], indices: Any
    ) -> dict[str, Tensor]:
        """As Mask2Former's, of (B, Q, K + 1) logits that are shifted on matched queries."""
        is_object = torch.zeros_like(class_queries_logits[..., 0], dtype=torch.bool)
        is_object[self._get_predictions_permutation_indices(indices)] = True
        logits = shifted(class_queries_logits, is_object, self.shift)
        return super().loss_labels(logits, class_labels, indices)
