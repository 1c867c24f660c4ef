"""Logit adjustment as a loss."""

from __future__ import annotations

import math

from torch import Tensor

from balms_seg.losses import _checks
from balms_seg.losses._cross_entropy import shifted_cross_entropy


def logit_adjusted_loss(
    logits: Tensor, targets: Tensor, counts: Tensor, *, tau: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy on z_j + tau log pi_j, pi the class shares of the training set.

    Equal to Balanced Softmax at tau = 1 and to cross-entropy at tau = 0.

    Args:
        logits: (N, K) unnormalised scores; half precision is computed in float32.
        targets: (N,) int64 in [0, K).
        counts: (K,) positive training samples per class; only their ratios matter.
        tau: strength.
        reduction: "none" gives (N,); "mean" and "sum" give a scalar, 0 where N = 0.

    Returns:
        Loss in nats, in float32 or wider.

    Raises:
        ValueError: shapes disagree, `counts` are not positive and finite, a target is out of range
            (on the CPU), or `reduction` is unknown.
        TypeError: logits are not floating-point or targets not int64.

    Source: Menon et al. 2021 (arXiv 2007.07314). google-research/logit_adjustment adds 1e-12 to
    pi^tau before the logarithm; here, where counts are positive, nothing is added.
    """
    _checks.check_reduction(reduction)
    _checks.check_logits_and_targets(logits, targets)
    _checks.check_class_vector(counts, name="counts", num_classes=logits.shape[1], upper=math.inf)
    logits = _checks.widen(logits)
    counts = _checks.widen_with(counts, logits)
    shift = (tau * (counts / counts.sum()).log()).to(logits)
    return _checks.reduce_loss(shifted_cross_entropy(logits, targets, shift), reduction)
