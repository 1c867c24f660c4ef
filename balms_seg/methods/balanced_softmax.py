"""Balanced Softmax: training on logits shifted by the log class counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from balms_seg.losses import (
    BACKGROUND_FORMS,
    balanced_softmax_loss,
    balanced_softmax_loss_with_background,
)
from balms_seg.methods.context import LossContext
from balms_seg.methods.settings import PRIORS, MethodSettings
from balms_seg.methods.softmax import Softmax

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


class BalancedSoftmax(Softmax):
    """Softmax trained with Balanced Softmax; inference is the plain softmax.

    Source: Ren et al. 2020 (arXiv 2007.10740); what background gets is ours.
    """

    @dataclass(frozen=True)
    class Settings(MethodSettings):
        """The prior, and what background gets.

        Attributes:
            prior: counts n_j: image | instance | sampled (instances weighted by the sampler's
                expected repeats). auto: instance, which measured best.
            background: foreground_only | neutral | factored | prior, see docs/balanced_softmax.md.
                The default measured best (docs/results/toy_backgrounds.md).
            geometric_mean: of the counts under `foreground_only`, which are multiplied to have it
                over the classes with samples, so that the loss does not depend on the size of the
                data set; 0 takes them as they are. 1 is `neutral` where every class has samples.
                Other forms are blind to a common factor of all counts. 30 did well where 0 did,
                and where it did not (docs/results/README.md).
            background_count: count of background for `background` prior. 0: the foreground counts'
                sum times `background_ratio`.
            background_ratio: background proposals for each foreground one in a training batch,
                (1 - POSITIVE_FRACTION) / POSITIVE_FRACTION.
        """

        prior: str = "auto"
        background: str = "foreground_only"
        geometric_mean: float = 30.0
        background_count: float = 0.0
        background_ratio: float = 3.0

        def __post_init__(self) -> None:
            self.check_choice("prior", PRIORS)
            self.check_choice("background", BACKGROUND_FORMS)
            self.check_range(
                "geometric_mean",
                0 <= self.geometric_mean < float("inf"),
                "a positive number, or 0 for the counts as they are",
            )
            self.check_range(
                "background_count",
                0 <= self.background_count < float("inf"),
                "a positive count, or 0 to derive it",
            )
            self.check_range(
                "background_ratio", 0 < self.background_ratio < float("inf"), "a positive number"
            )

    needs_statistics = True
    settings: Settings

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep the class counts that the setting `prior` names, and background's."""
        super().prepare(statistics)
        settings, counts = self.settings, None
        self._background_count: float | None = None
        if statistics is not None:
            counts = statistics.prior_counts(
                "instance" if settings.prior == "auto" else settings.prior
            )
            scaled = self.has_background and settings.background == "foreground_only"
            if scaled and settings.geometric_mean:
                # A class without samples has the count 1, whose logarithm adds nothing.
                num_seen = max(np.count_nonzero(statistics.instance_counts), 1)
                mean = np.exp(np.log(counts).sum() / num_seen)
                counts = counts * (settings.geometric_mean / mean)
            if settings.background == "prior":
                derived = float(counts.sum()) * settings.background_ratio
                self._background_count = settings.background_count or derived
        self.keep("counts", counts)

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """Balanced Softmax loss, with or without background."""
        counts = self.kept("counts")
        if not self.has_background:
            return balanced_softmax_loss(logits, targets, counts, reduction="none")
        return balanced_softmax_loss_with_background(
            logits,
            targets,
            counts,
            background=self.settings.background,
            background_count=self._background_count,
            reduction="none",
        )
