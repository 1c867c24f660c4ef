"""Margins by class on a cosine classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from balms_seg.losses import _checks, effective_number_weights, ldam_loss
from balms_seg.methods.class_balanced import weigh_rows
from balms_seg.methods.context import LossContext
from balms_seg.methods.counting import CountingSoftmax
from balms_seg.methods.settings import MethodSettings

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


class LDAM(CountingSoftmax):
    """Cross-entropy of s (cos - D_y), D_j in proportion to n_j^(-1/4); background has no margin.

    The classifier scales its cosines with s.

    Source: Cao et al. 2019 (arXiv 1906.07413).
    """

    @dataclass(frozen=True)
    class Settings(MethodSettings):
        """The margins.

        Attributes:
            max_margin: D of the rarest class.
            scale: s.
        """

        max_margin: float = 0.5
        scale: float = 30.0

        def __post_init__(self) -> None:
            self.check_range("max_margin", self.max_margin >= 0, "0 or more")
            self.check_range("scale", self.scale > 0, "a number above 0")

    classifier_kind = "cosine"
    needs_cosines = True
    settings: Settings

    @property
    def cosine_scale(self) -> float:
        """The setting `scale`."""
        return self.settings.scale

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """Losses with margins."""
        return ldam_loss(
            _checks.widen(logits) / self.settings.scale,
            targets,
            self.kept("counts"),
            max_margin=self.settings.max_margin,
            scale=self.settings.scale,
            has_background=self.has_background,
            reduction="none",
        )


class LDAMDRW(LDAM):
    """LDAM with deferred reweighting: the last part of the run has the CB loss's class weights.

    Source: Cao et al. 2019 (arXiv 1906.07413); from epoch 160 of 200 on in kaidic/LDAM-DRW.
    """

    @dataclass(frozen=True)
    class Settings(LDAM.Settings):
        """The margins, and the weights that follow.

        Attributes:
            max_margin: D of the rarest class.
            scale: s.
            beta: of the effective number of samples.
            start: share of the run after which the classes are weighted.
        """

        beta: float = 0.9999
        start: float = 0.8

        def __post_init__(self) -> None:
            super().__post_init__()
            self.check_range("beta", 0 <= self.beta < 1, "a number in [0, 1)")
            self.check_range("start", 0 <= self.start <= 1, "a share of the run in [0, 1]")

    rows_are_independent = False  # the weights are scaled over the batch
    needs_progress = True
    settings: Settings

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep the counts and the class weights."""
        super().prepare(statistics)
        weights = None
        if statistics is not None:
            counts = torch.as_tensor(statistics.prior_counts("instance"))
            weights = effective_number_weights(counts, beta=self.settings.beta)
        self.keep("class_weights", weights)

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """Losses with margins, weighted from the setting `start` on."""
        progress = context.needed("progress", self)
        losses = super().loss(logits, targets, context)
        if progress.iteration < self.settings.start * progress.max_iter:
            return losses
        return weigh_rows(losses, self.kept("class_weights"), targets)
