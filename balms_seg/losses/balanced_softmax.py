"""Balanced Softmax without a background class."""

from __future__ import annotations

import math

from torch import Tensor

from balms_seg.losses import _checks
from balms_seg.losses._cross_entropy import shifted_cross_entropy


def balanced_softmax_loss(
    logits: Tensor, targets: Tensor, counts: Tensor, *, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy on logits shifted by the training log-counts.

    At test time the plain softmax of the unshifted logits is used.

    Args:
        logits: (N, K) unnormalised scores; half precision is computed in float32.
        targets: (N,) int64 in [0, K).
        counts: (K,) positive training samples per class; only their ratios matter.
        reduction: "none" gives (N,); "mean" and "sum" give a scalar, 0 where N = 0.

    Returns:
        Loss in nats, in float32 or wider.

    Raises:
        ValueError: shapes disagree, `counts` are not positive and finite, a target is out of range
            (on the CPU), or `reduction` is unknown.
        TypeError: logits are not floating-point or targets not int64.

    Source: Ren et al. 2020 (arXiv 2007.10740), Balanced Softmax.
    """
    _checks.check_reduction(reduction)
    _checks.check_logits_and_targets(logits, targets)
    _checks.check_class_vector(counts, name="counts", num_classes=logits.shape[1], upper=math.inf)
    logits = _checks.widen(logits)
    shift = _checks.widen_with(counts, logits).log().to(logits)
    return _checks.reduce_loss(shifted_cross_entropy(logits, targets, shift), reduction)
