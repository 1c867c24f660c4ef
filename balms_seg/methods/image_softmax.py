"""Softmax over the classes of whole images, and its Balanced Softmax form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import balanced_softmax_loss
from balms_seg.methods.image_base import ImageMethod, TrainingProgress

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


class ImageSoftmax(ImageMethod):
    """Cross-entropy."""

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        features: Tensor | None = None,
        progress: TrainingProgress | None = None,
        reduction: str = "mean",
    ) -> Tensor:
        """Cross-entropy; the mean over no images is 0 with a gradient."""
        if labels.numel() == 0 and reduction == "mean":
            return logits.float().sum() * 0.0
        return F.cross_entropy(logits.float(), labels, reduction=reduction)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax."""
        return F.softmax(logits, dim=-1)


class ImageBalancedSoftmax(ImageSoftmax):
    """Softmax trained with Balanced Softmax on the training set's counts; inference is plain.

    Source: Ren et al. 2020 (arXiv 2007.10740).
    """

    needs_statistics = True

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep the image counts."""
        counts = None if statistics is None else statistics.prior_counts("image")
        self._register_prior("counts", counts)

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        features: Tensor | None = None,
        progress: TrainingProgress | None = None,
        reduction: str = "mean",
    ) -> Tensor:
        """Balanced Softmax loss; see `losses.balanced_softmax_loss`."""
        return balanced_softmax_loss(logits, labels, self._prior("counts"), reduction=reduction)
