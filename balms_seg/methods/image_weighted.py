"""Losses that weigh classes, or the images of a class, by how hard or how rare they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import (
    _checks,
    effective_number_weights,
    focal_loss,
    inverse_frequency_weights,
    ldam_loss,
)
from balms_seg.methods.image_base import CB_LOSSES, ImageMethod, TrainingProgress, weigh_rows
from balms_seg.methods.image_softmax import CountingImageMethod

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


class ImageFocal(ImageMethod):
    """Focal loss on the softmax."""

    def row_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        features: Tensor | None,
        progress: TrainingProgress | None,
    ) -> Tensor:
        """(B,) focal losses."""
        return focal_loss(logits, labels, gamma=self.options.focal_gamma, reduction="none")


class ImageClassBalancedWeighting(CountingImageMethod):
    """Cross-entropy weighted by 1 / n."""

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep the class weights."""
        super().prepare(statistics)
        weights = None
        if statistics is not None:
            weights = self._weights(torch.as_tensor(statistics.prior_counts("image")))
        self._register_prior("weights", weights)

    def row_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        features: Tensor | None,
        progress: TrainingProgress | None,
    ) -> Tensor:
        """(B,) weighted losses."""
        losses = self._unweighted(logits, labels)
        return weigh_rows(losses, self._prior("weights"), labels)

    def _weights(self, counts: Tensor) -> Tensor:
        return inverse_frequency_weights(counts)

    def _unweighted(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(_checks.widen(logits), labels, reduction="none")


class ImageCBLoss(ImageClassBalancedWeighting):
    """Class-Balanced loss: cross-entropy or focal loss, weighted by the effective number.

    Source: Cui et al. 2019 (arXiv 1901.05555).
    """

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep the class weights.

        Raises:
            ValueError: `options.cb_loss` is unknown.
        """
        if self.options.cb_loss not in CB_LOSSES:
            raise ValueError(
                f"Expected MODEL.IMAGE_CLASSIFIER.CB_LOSS to be one of {CB_LOSSES}, but got "
                f"{self.options.cb_loss!r}."
            )
        super().prepare(statistics)

    def _weights(self, counts: Tensor) -> Tensor:
        return effective_number_weights(counts, beta=self.options.cb_beta)

    def _unweighted(self, logits: Tensor, labels: Tensor) -> Tensor:
        gamma = self.options.focal_gamma if self.options.cb_loss == "focal" else 0.0
        return focal_loss(logits, labels, gamma=gamma, reduction="none")


class ImageLDAM(CountingImageMethod):
    """Margins by class on a cosine classifier, which scales its cosines.

    Source: Cao et al. 2019 (arXiv 1906.07413).
    """

    classifier_kind = "cosine"

    def row_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        features: Tensor | None,
        progress: TrainingProgress | None,
    ) -> Tensor:
        """(B,) losses."""
        scale = self.options.cosine_scale
        return ldam_loss(
            _checks.widen(logits) / scale,
            labels,
            self._prior("counts"),
            max_margin=self.options.ldam_max_margin,
            scale=scale,
            reduction="none",
        )


class ImageLDAMDRW(ImageLDAM):
    """LDAM with deferred reweighting: the last part of the run has the CB loss's class weights.

    Source: Cao et al. 2019 (arXiv 1906.07413); from epoch 160 of 200 on in kaidic/LDAM-DRW.
    """

    needs_progress = True

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep the counts and the class weights."""
        super().prepare(statistics)
        weights = None
        if statistics is not None:
            counts = torch.as_tensor(statistics.prior_counts("image"))
            weights = effective_number_weights(counts, beta=self.options.cb_beta)
        self._register_prior("weights", weights)

    def row_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        features: Tensor | None,
        progress: TrainingProgress | None,
    ) -> Tensor:
        """(B,) losses, weighted from `options.drw_start` on."""
        assert progress is not None
        losses = super().row_losses(logits, labels, features, progress)
        if progress.iteration < self.options.drw_start * progress.max_iter:
            return losses
        return weigh_rows(losses, self._prior("weights"), labels)
