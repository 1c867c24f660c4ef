"""Feature-Balanced Loss with its curriculum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import feature_balanced_loss
from balms_seg.methods.context import LossContext, TrainingProgress
from balms_seg.methods.counting import CountingSoftmax
from balms_seg.methods.settings import MethodSettings, place_of

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics

ALPHAS = ("released", "clipped")
_EPOCHS_AFTER_RAMP = 10  # as released


class FeatureBalanced(CountingSoftmax):
    """Margins by class and by the length of a row's features, stronger from epoch to epoch.

    Inference is the plain softmax. Background, where there is one, is taken for as frequent as the
    most frequent class, which has no margin.

    Source: Li et al. 2022 (arXiv 2305.10772); juyongjiang/FBL: train.py for the curriculum.
    """

    @dataclass(frozen=True)
    class Settings(MethodSettings):
        """Strength and curriculum.

        Attributes:
            strength: lambda; 60 on CIFAR, 150 elsewhere.
            alpha: curriculum alpha(e): released (ends above 1) | clipped (at 1).
            ramp: share of the run after which alpha is 1. 0: ten epochs before the end, in whole
                epochs, as released; runs of few epochs need another.
        """

        strength: float = 60.0
        alpha: str = "released"
        ramp: float = 0.0

        def __post_init__(self) -> None:
            self.check_range("strength", self.strength >= 0, "0 or more")
            self.check_choice("alpha", ALPHAS)
            self.check_range("ramp", 0 <= self.ramp <= 1, "a share of the run in [0, 1]")

    needs_progress = True
    settings: Settings

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep the counts, background's among them, and the number of images of an epoch."""
        super().prepare(statistics)
        self._num_images = None if statistics is None else statistics.num_images
        if self.has_background and statistics is not None:
            counts = self.kept("counts")
            self.keep("counts", F.pad(counts, (0, 1), value=float(counts.max())))

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """Losses with margins."""
        counts = self.kept("counts")
        return feature_balanced_loss(
            logits,
            targets,
            counts,
            context.needed("features", self),
            strength=self.alpha(context.needed("progress", self)) * self.settings.strength,
            reduction="none",
        )

    def alpha(self, progress: TrainingProgress) -> float:
        """How much of lambda counts by now.

        With e whole epochs of E: (e / (E - 10))^2 as released, which ends above 1, or at most 1 if
        "clipped". With the setting `ramp` r, the same with the share of the iterations done / r:
        for runs of few epochs.

        Raises:
            ValueError: the run has no more than ten epochs, and `ramp` is 0.
        """
        assert self._num_images is not None
        ramp = self.settings.ramp
        batches_per_epoch = self._num_images / progress.images_per_batch
        num_epochs = progress.max_iter / batches_per_epoch
        if ramp > 0:
            alpha = (progress.iteration / (progress.max_iter * ramp)) ** 2
        elif num_epochs > _EPOCHS_AFTER_RAMP:
            epoch = int(progress.iteration / batches_per_epoch)
            alpha = (epoch / (num_epochs - _EPOCHS_AFTER_RAMP)) ** 2
        else:
            raise ValueError(
                "Expected more than 10 epochs for the Feature-Balanced Loss, whose alpha is 1 ten "
                f"epochs before the end, but SOLVER.MAX_ITER {progress.max_iter} makes "
                f"{num_epochs:.3g}; train longer, or set {place_of('feature_balanced', 'ramp')} "
                "to the share of the run after which alpha is 1, such as 0.95."
            )
        return min(alpha, 1.0) if self.settings.alpha == "clipped" else alpha
