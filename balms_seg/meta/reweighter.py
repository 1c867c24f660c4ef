"""The Meta Reweighter: a learned loss weight for each class."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from balms_seg.device_copies import sent
from balms_seg.meta.adam import AdamSettings
from balms_seg.meta.class_parameters import ClassParameters
from balms_seg.meta.gradient import Sum
from balms_seg.meta.row_weights import (
    NORMALISE,
    RowWeights,
    class_weights,
    psi_gradient,
    sum_by_class,
)

logger = logging.getLogger(__name__)


class MetaReweighter(nn.Module):
    """Class weights sigmoid(psi) on foreground rows, and the step that learns psi.

    N rows, K classes; target K is background, whose weight is 1. psi starts at 0, where every
    weight is 1.

    Attributes:
        classes: psi and its Adam.

    Source: Ren et al. 2020 (arXiv 2007.10740), supplement B.2.
    """

    has_meta_samples: Tensor

    def __init__(
        self,
        num_classes: int,
        adam: AdamSettings,
        *,
        normalise: str,
        sum_over_ranks: Sum | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Start with equal weights.

        Args:
            num_classes: K.
            adam: its settings.
            normalise: "global" gives the foreground rows of all ranks mean weight 1, "rank" those
                of each rank (as released). The same with one rank.
            sum_over_ranks: adds a tensor up over the ranks; None for a single process.
            class_names: K names for messages, checked against a checkpoint's.

        Raises:
            ValueError: `normalise` is unknown, or there are not K names.
        """
        super().__init__()
        if normalise not in NORMALISE:
            raise ValueError(
                f"Expected normalise to be one of {NORMALISE}, but got {normalise!r}; set "
                "META.NORMALISE."
            )
        self.classes = ClassParameters(num_classes, adam, class_names=class_names)
        self.normalise = normalise
        self.sum_over_ranks = sum_over_ranks
        is_present = torch.ones(num_classes, dtype=torch.bool)
        self.register_buffer("has_meta_samples", is_present, persistent=False)

    @property
    def rates(self) -> Tensor:
        """(K,) sigmoid(psi); only ratios matter."""
        return torch.sigmoid(self.classes.psi)

    def set_meta_classes(self, has_samples: Tensor, *, warn: bool = True) -> None:
        """Say which classes the meta set holds; the others keep their rate at every step.

        A class that the meta loss cannot defend would only ever lose weight. Not part of the
        checkpoint: set it when the meta set is known, and again where it grows (a feature bank).

        Args:
            has_samples: (K,) bool, equal on all ranks.
            warn: log the missing classes.
        """
        if has_samples.shape != self.has_meta_samples.shape or has_samples.dtype != torch.bool:
            raise ValueError(
                f"Expected a bool for each of {len(self.classes)} classes, but got "
                f"{has_samples.dtype} of shape {tuple(has_samples.shape)}."
            )
        self.has_meta_samples = sent(has_samples, self.has_meta_samples.device)
        if warn and not bool(has_samples.all()):
            logger.warning(
                "The meta set has no sample of %s; the weight of these classes stays where it is.",
                self.classes.describe(~has_samples),
            )

    def weigh(self, targets: Tensor) -> RowWeights:
        """Weights (detached) of a training batch's rows, for both the virtual and the real step.

        Args:
            targets: (N,) int64 in [0, K].
        """
        return class_weights(self.classes.psi, targets, self._sum_if("global"))

    def step(self, rows: RowWeights, sample_gradient: Tensor) -> None:
        """One Adam step on psi.

        A class that the meta set holds but that has no row in this batch has gradient zero and
        moves as in `torch.optim.Adam`, by its momentum and by weight decay; so does the release.

        Args:
            rows: what `weigh` returned for the batch; psi has not changed since.
            sample_gradient: (N,) derivative of the meta loss by each row's weight.

        Raises:
            FloatingPointError: psi would not be finite. It is then left as it was.
        """
        psi = self.classes.psi
        class_sums = sum_by_class(sample_gradient.to(psi), rows.targets, len(psi))
        class_sums = self._sum_if("global")(class_sums)
        gradient = psi_gradient(psi, class_sums, rows.scale, rows.count)
        gradient = self._sum_if("rank")(gradient)
        # The normaliser spreads a value that is not finite over all classes of the batch.
        self.classes.step(gradient, is_updated=self.has_meta_samples, origin=class_sums[:, 0])

    def _sum_if(self, normalise: str) -> Sum:
        if self.sum_over_ranks is None or self.normalise != normalise:
            return lambda tensor: tensor
        return self.sum_over_ranks
