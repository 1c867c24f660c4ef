"""Effective Class-Margin loss: a margin and a weight by class, from how often it occurs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import _checks
from balms_seg.methods.context import LossContext
from balms_seg.methods.entries import binary_terms, positive_entries
from balms_seg.methods.sigmoid_with_background import SigmoidWithBackground

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


class ECM(SigmoidWithBackground):
    """Binary cross-entropies of 2 z_j + log(n_j / (N - n_j)) / 4, made for a classifier of cosines.

    n_j are the training images of class j, N their sum, and classes weigh a log(1 + 1/a) with
    a = (N - n_j) / n_j. Background, where there is one, is a class with a count of its own.

    Source: Cho and Kraehenbuehl 2022 (arXiv 2301.09724); janghyuncho/ECM-Loss:
    effective_class_margin_loss.py.
    """

    @dataclass(frozen=True)
    class Settings(SigmoidWithBackground.Settings):
        """What background counts, and where a linear classifier starts.

        Attributes:
            prior_probability: p in the initial bias -log((1 - p) / p) of a linear classifier.
            background_ratio: count of background for each one of the classes; measured on a
                Mask R-CNN by the source.
        """

        background_ratio: float = 6.3313

        def __post_init__(self) -> None:
            super().__post_init__()
            self.check_range("background_ratio", self.background_ratio > 0, "a number above 0")

    needs_statistics = True
    classifier_kind = "cosine"
    settings: Settings

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep margins and weights, of background too."""
        super().prepare(statistics)
        margins = weights = None
        if statistics is not None:
            counts = torch.as_tensor(statistics.prior_counts("image"))
            if self.has_background:
                background = float(counts.sum()) * self.settings.background_ratio
                counts = F.pad(counts, (0, 1), value=background)
            others = (counts.sum() - counts) / counts
            margins, weights = -others.log() / 4, others * (1 + 1 / others).log()
        self.keep("margins", margins)
        self.keep("class_weights", weights)

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """A row's loss is the weighted sum of its binary cross-entropies."""
        logits = _checks.widen(logits)
        with_margins = 2 * logits + self.kept("margins").to(logits)
        terms = binary_terms(with_margins, positive_entries(logits, targets))
        return (terms * self.kept("class_weights").to(terms)).sum(dim=1)
