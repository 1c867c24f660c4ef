"""Equalization Loss: objects of other classes do not push rare classes down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from balms_seg.methods.context import LossContext
from balms_seg.methods.entries import binary_terms, positive_entries
from balms_seg.methods.sigmoid import Sigmoid

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


class EQL(Sigmoid):
    """Sigmoids; on foreground rows, negative entries of rare classes are left out.

    Source: Tan et al. 2020 (arXiv 2003.05176); tztztztztz/eql.detectron2: fast_rcnn.py.
    """

    @dataclass(frozen=True)
    class Settings(Sigmoid.Settings):
        """Which classes are rare, and where the classifier starts.

        Attributes:
            prior_probability: p in the classifier's initial bias -log((1 - p) / p).
            threshold: lambda; classes in a smaller share of the training images are rare. 0.00177
                for LVIS v0.5; 0.0011 for v1 in tztztztztz/eqlv2.
        """

        threshold: float = 0.00177

        def __post_init__(self) -> None:
            super().__post_init__()
            self.check_range("threshold", 0 <= self.threshold <= 1, "a share of the images")

    needs_statistics = True
    settings: Settings

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep which classes are rare."""
        super().prepare(statistics)
        rare = None if statistics is None else statistics.frequency < self.settings.threshold
        self.keep("is_rare", rare)

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """A row's loss is the sum of the binary cross-entropies that are left."""
        is_positive = positive_entries(logits, targets)
        is_left_out = self._protected_rows(logits, targets, context) & ~is_positive
        is_left_out = is_left_out & self.kept("is_rare").bool()
        return self._terms(logits, is_positive).masked_fill(is_left_out, 0.0).sum(dim=1)

    def _protected_rows(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """(R, 1) or (R, K) bool: where negative entries of rare classes are left out."""
        return (targets < self.num_classes)[:, None]

    def _terms(self, logits: Tensor, is_positive: Tensor) -> Tensor:
        return binary_terms(logits, is_positive)
