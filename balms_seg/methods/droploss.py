"""DropLoss: Equalization Loss that spares rare classes what background says, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.device_copies import sent
from balms_seg.methods.context import LossContext
from balms_seg.methods.eql import EQL


class DropLoss(EQL):
    """EQL that also leaves out, at random, what background rows say against rare classes.

    The smaller the share of rare classes among the batch's objects, the more is left out: an entry
    where a uniform number is above it. Whole images have no background: there it is EQL. The batch
    is the rank's, as released.

    Source: Hsieh et al. 2021 (arXiv 2104.06402); timy90022/DropLoss: fast_rcnn.py.
    """

    @dataclass(frozen=True)
    class Settings(EQL.Settings):
        """As those of `EQL`.

        Attributes:
            prior_probability: p in the classifier's initial bias -log((1 - p) / p).
            threshold: lambda; 0.00177 for LVIS v0.5.
        """

        threshold: float = 0.0010062

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Rows share the batch's draw where there is background."""
        super().__init__(*args, **kwargs)
        self.rows_are_independent = not self.has_background

    def _protected_rows(self, logits: Tensor, targets: Tensor, context: LossContext) -> Tensor:
        is_foreground = super()._protected_rows(logits, targets, context)
        if not self.has_background:
            return is_foreground
        of_rare = F.pad(self.kept("is_rare"), (0, 1))[targets]
        share = of_rare.sum() / is_foreground.sum()  # NaN without an object: nothing is left out
        return is_foreground | (self._uniform(logits, context) > share)

    def _uniform(self, logits: Tensor, context: LossContext) -> Tensor:
        """(R, K) uniform numbers; drawn on the CPU, so that a resumed run repeats them."""
        return sent(torch.rand(logits.shape, generator=context.generator), logits.device)
