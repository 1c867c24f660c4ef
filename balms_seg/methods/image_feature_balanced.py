"""Feature-Balanced Loss with its curriculum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from balms_seg.losses import feature_balanced_loss
from balms_seg.methods.image_base import FBL_ALPHAS, TrainingProgress
from balms_seg.methods.image_softmax import CountingImageMethod

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics

_EPOCHS_AFTER_RAMP = 10  # as released


class ImageFeatureBalanced(CountingImageMethod):
    """Margins by class and by the length of an image's features, stronger from epoch to epoch.

    Inference is the plain softmax.

    Source: Li et al. 2022 (arXiv 2305.10772); juyongjiang/FBL: train.py for the curriculum.
    """

    needs_features = True
    needs_progress = True

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep the counts.

        Raises:
            ValueError: `options.fbl_alpha` is unknown.
        """
        if self.options.fbl_alpha not in FBL_ALPHAS:
            raise ValueError(
                f"Expected MODEL.IMAGE_CLASSIFIER.FBL_ALPHA to be one of {FBL_ALPHAS}, but got "
                f"{self.options.fbl_alpha!r}."
            )
        super().prepare(statistics)

    def row_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        features: Tensor | None,
        progress: TrainingProgress | None,
    ) -> Tensor:
        """(B,) losses."""
        assert features is not None
        assert progress is not None
        return feature_balanced_loss(
            logits,
            labels,
            self._prior("counts"),
            features,
            strength=self.alpha(progress) * self.options.fbl_lambda,
            reduction="none",
        )

    def alpha(self, progress: TrainingProgress) -> float:
        """How much of lambda counts by now.

        With e whole epochs of E: (e / (E - 10))^2 as released, which ends above 1, or at most 1 if
        "clipped". With `options.fbl_ramp` r, the same with the share of the iterations done / r:
        for runs of few epochs.

        Raises:
            ValueError: the run has no more than ten epochs, and `fbl_ramp` is 0.
        """
        ramp = self.options.fbl_ramp
        if ramp > 0:
            alpha = (progress.iteration / (progress.max_iter * ramp)) ** 2
        elif progress.max_epoch > _EPOCHS_AFTER_RAMP:
            alpha = (progress.epoch / (progress.max_epoch - _EPOCHS_AFTER_RAMP)) ** 2
        else:
            raise ValueError(
                "Expected more than 10 epochs for the Feature-Balanced Loss, whose alpha is 1 ten "
                f"epochs before the end, but SOLVER.MAX_ITER {progress.max_iter} makes "
                f"{progress.max_epoch:.3g}; train longer, or set MODEL.IMAGE_CLASSIFIER.FBL_RAMP "
                "to the share of the run after which alpha is 1, such as 0.95."
            )
        return min(alpha, 1.0) if self.options.fbl_alpha == "clipped" else alpha
