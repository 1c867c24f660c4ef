"""Balanced Group Softmax: classes compete with those that are about as frequent.

Columns: the K classes in their order, "others" of each of the G groups and, for boxes, foreground
and background.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.device_copies import sent
from balms_seg.losses import _checks
from balms_seg.methods.base import Method
from balms_seg.methods.context import LossContext
from balms_seg.methods.settings import MethodSettings, place_of

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


class BAGS(Method):
    """A softmax for each group of classes and "others"; for boxes one of foreground, too.

    A group's loss is the mean over its own rows and so many times as many of the others, drawn at
    random; that of a group without a row in the batch is 0. The losses add up. A class's score is
    its probability in its group, for boxes times that of foreground: they do not sum to 1. The
    source trains the last layer alone, from a softmax model.

    Source: Li et al. 2020 (arXiv 2006.10408); FishYuLi/BalancedGroupSoftmax:
    gs_bbox_head_with0.py.
    """

    @dataclass(frozen=True)
    class Settings(MethodSettings):
        """The groups, and what "others" are.

        Attributes:
            bounds: training instances at which a group ends and the next begins, ascending.
            others_ratio: rows of "others" for each row of a group.
        """

        bounds: tuple[int, ...] = (10, 100, 1000)
        others_ratio: float = 8.0

        def __post_init__(self) -> None:
            ascends = all(low < high for low, high in pairwise(self.bounds))
            self.check_range(
                "bounds",
                len(self.bounds) > 0 and self.bounds[0] > 0 and ascends,
                "ascending positive numbers",
            )
            self.check_range("others_ratio", self.others_ratio > 0, "a number above 0")

    needs_statistics = True
    rows_are_independent = False  # the batch's rows of a group decide how many others there are
    independent_scores = True
    settings: Settings

    @property
    def num_groups(self) -> int:
        """G."""
        return len(self.settings.bounds) + 1

    @property
    def num_columns(self) -> int:
        """K classes, G others, and for boxes foreground and background."""
        return self.num_classes + self.num_groups + 2 * self.has_background

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Sort the classes into groups.

        Raises:
            ValueError: a group has no class.
        """
        super().prepare(statistics)
        if statistics is None:
            for name in ("groups", "order", "places"):
                self.keep(name, None)
            return
        counts = statistics.instance_counts
        groups = np.searchsorted(self.settings.bounds, counts, side="right")
        self._sizes: list[int] = np.bincount(groups, minlength=self.num_groups).tolist()
        if 0 in self._sizes:
            raise ValueError(
                f"Expected classes in each of the {self.num_groups} groups that the bounds "
                f"{tuple(self.settings.bounds)} make, but got {self._sizes}; the classes have "
                f"{counts.min()} to {counts.max()} training instances: set "
                f"{place_of('bags', 'bounds')} in between."
            )
        order = np.argsort(groups, kind="stable")
        first = np.cumsum([0, *self._sizes])[groups]
        self.keep("groups", groups)
        self.keep("order", order)
        self.keep("places", np.argsort(order) - first + 1)  # in the group, behind "others"

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """Losses whose mean over the rows is the sum of the groups' losses."""
        group = F.pad(self.kept("groups"), (0, 1), value=-1)[targets]
        is_member = group[:, None] == torch.arange(self.num_groups, device=group.device)
        places = F.pad(self.kept("places"), (0, 1))[targets].long()
        is_kept = self._kept_rows(is_member, context)
        losses = self._objectness_loss(logits, targets)
        for index, part in enumerate(self._by_group(_checks.widen(logits))):
            own = places * is_member[:, index]
            share = len(targets) / is_kept[:, index].sum().clamp(min=1)
            of_group = F.cross_entropy(part, own, reduction="none") * is_kept[:, index]
            losses = losses + of_group * share
        return losses

    def _kept_rows(self, is_member: Tensor, context: LossContext) -> Tensor:
        """(R, G) bool: a group's rows, and as many of the others as the setting says."""
        # Drawn on the CPU, so that a resumed run repeats them; members come last.
        numbers = sent(torch.rand(is_member.shape, generator=context.generator), is_member.device)
        rank = numbers.masked_fill(is_member, 2.0).argsort(dim=0).argsort(dim=0)
        others = (is_member.sum(dim=0) * self.settings.others_ratio).long()
        return is_member | (rank < others)

    def _by_group(self, logits: Tensor) -> list[Tensor]:
        """(R, 1 + size) logits of each group, "others" first."""
        classes = logits[:, self.foreground_columns][:, self.kept("order").long()]
        others = logits[:, self.num_classes : self.num_classes + self.num_groups]
        parts = zip(others.split(1, dim=1), classes.split(self._sizes, dim=1), strict=True)
        return [torch.cat(part, dim=1) for part in parts]

    def _objectness_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        logits = _checks.widen(logits)
        if not self.has_background:
            return logits.new_zeros(len(logits))
        is_background = (targets == self.num_classes).long()
        return F.cross_entropy(logits[:, -2:], is_background, reduction="none")

    def prior_bias(self, shares: Tensor, foreground: float) -> Tensor:
        """As of each group's softmax, in which "others" are as many as are drawn."""
        groups = self.kept("groups").long().to(shares.device)
        of_group = shares.new_zeros(self.num_groups).index_add(0, groups, shares)
        others = torch.full_like(of_group, self.settings.others_ratio)
        objectness = shares.new_tensor([foreground, 1 - foreground] * self.has_background)
        return self.bias_of(torch.cat([shares / of_group[groups], others, objectness]))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax in each group; for boxes times p(foreground), and p(background) last."""
        sorted_scores = torch.cat(
            [part.softmax(dim=1)[:, 1:] for part in self._by_group(logits)], dim=1
        )
        classes = sorted_scores[:, self.kept("order").argsort()]
        if not self.has_background:
            return classes
        foreground, background = logits[:, -2:].softmax(dim=1).split(1, dim=1)
        return torch.cat([classes * foreground, background], dim=1)
