"""Label-distribution-aware margin loss."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import _checks


def ldam_margins(counts: Tensor, *, max_margin: float = 0.5) -> Tensor:
    """(K,) margins in proportion to n_j^(-1/4), the largest `max_margin`; counts are floats."""
    margins = counts**-0.25
    return margins * (max_margin / margins.max())


def ldam_loss(
    logits: Tensor,
    targets: Tensor,
    counts: Tensor,
    *,
    max_margin: float = 0.5,
    scale: float = 30.0,
    has_background: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of s (z - D_y on the target's column), D_j in proportion to n_j^(-1/4).

    Meant for cosines z of features and class weights; test time takes softmax(s z).

    Args:
        logits: (N, K), usually in [-1, 1]; half precision is computed in float32.
        targets: (N,) int64, a column of the logits.
        counts: (K,) positive training samples per class; only their ratios matter.
        max_margin: D of the rarest class; 0 leaves cross-entropy of s z.
        scale: s.
        has_background: logits have one more column, the last, for background; it has no margin.
        reduction: "none" gives (N,); "mean" and "sum" give a scalar, 0 where N = 0.

    Returns:
        Loss in nats, in float32 or wider.

    Raises:
        ValueError: shapes disagree, `counts` are not positive and finite, a target is out of range
            (on the CPU), or `reduction` is unknown.
        TypeError: logits are not floating-point or targets not int64.

    Source: Cao et al. 2019 (arXiv 1906.07413); kaidic/LDAM-DRW: losses.py.
    """
    _checks.check_reduction(reduction)
    _checks.check_logits_and_targets(logits, targets)
    num_classes = logits.shape[1] - has_background
    _checks.check_class_vector(counts, name="counts", num_classes=num_classes, upper=math.inf)
    logits = _checks.widen(logits)
    margins = ldam_margins(_checks.widen_with(counts, logits), max_margin=max_margin).to(logits)
    margins = F.pad(margins, (0, int(has_background)))
    shifted = logits.scatter_add(1, targets[:, None], -margins[targets][:, None])
    loss = F.cross_entropy(scale * shifted, targets, reduction="none")
    return _checks.reduce_loss(loss, reduction)
