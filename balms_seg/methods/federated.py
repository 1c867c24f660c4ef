"""Federated loss: a batch speaks of the classes it has and of a few others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.device_copies import sent
from balms_seg.methods.context import LossContext
from balms_seg.methods.entries import binary_terms, positive_entries
from balms_seg.methods.sigmoid import Sigmoid

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


class Federated(Sigmoid):
    """Sigmoids of the classes of the batch, and of others drawn in proportion to n^power.

    n are the training images. The classes that are kept are at least a given number, in which
    background, where the batch has it, counts for one. The batch is the rank's, as released; all
    ranks draw with the same numbers.

    Source: Zhou et al. 2021 (arXiv 2103.07461), CenterNet2; facebookresearch/detectron2:
    fast_rcnn.py, whose classifier starts at a bias of 0.
    """

    @dataclass(frozen=True)
    class Settings(Sigmoid.Settings):
        """Which classes are kept, and where the classifier starts.

        Attributes:
            prior_probability: p in the classifier's initial bias -log((1 - p) / p); 0.01 in
                CenterNet2.
            classes: smallest number of classes that a batch keeps.
            power: of the images of a class in its chance to be drawn; 0: all alike.
        """

        prior_probability: float = 0.01
        classes: int = 50
        power: float = 0.5

        def __post_init__(self) -> None:
            super().__post_init__()
            self.check_range("classes", self.classes >= 1, "1 or more")
            self.check_range("power", self.power >= 0, "0 or more")

        def check_classes(self, num_classes: int) -> None:
            """No more classes can be kept than there are."""
            self.check_range(
                "classes", self.classes <= num_classes, f"at most {num_classes}, as there are"
            )

    needs_statistics = True
    rows_are_independent = False  # all say something of the classes that one of them has
    settings: Settings

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Keep each class's chance to be drawn."""
        super().prepare(statistics)
        chances = None
        if statistics is not None:
            chances = statistics.prior_counts("image") ** self.settings.power
        self.keep("chances", chances)

    def loss(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        """A row's loss is the sum of the binary cross-entropies of the classes that are kept."""
        terms = binary_terms(logits, positive_entries(logits, targets))
        return terms.masked_fill(~self._kept_classes(targets, context), 0.0).sum(dim=1)

    def _kept_classes(self, targets: Tensor, context: LossContext) -> Tensor:
        """(K,) bool. Weights over exponential numbers: the largest are a draw without return."""
        chances = self.kept("chances")
        numbers = torch.empty(self.num_classes).exponential_(generator=context.generator)
        order = F.pad(chances / sent(numbers, chances.device), (0, 1))
        is_present = torch.zeros_like(order, dtype=torch.bool).index_fill(0, targets, True)
        first = order.masked_fill(is_present, torch.inf).topk(self.settings.classes).indices
        return is_present.index_fill(0, first, True)[: self.num_classes]
