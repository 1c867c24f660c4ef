"""One-against-all sigmoid loss for detection."""

from __future__ import annotations

from torch import Tensor

from balms_seg.losses import _checks
from balms_seg.losses._binary_cross_entropy import shifted_binary_cross_entropy


def sigmoid_loss(logits: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """Binary cross-entropy summed over the classes; background is the absence of all.

    Args:
        logits: (N, K) unnormalised scores; half precision is computed in float32.
        targets: (N,) int64 in [0, K]; K is background.
        reduction: "none" gives (N,); "mean" (divides by N) and "sum" give a scalar, 0 where N = 0.

    Returns:
        Loss in nats, in float32 or wider.

    Raises:
        ValueError: shapes disagree, a target is out of range (on the CPU), or `reduction` is
            unknown.
        TypeError: logits are not floating-point or targets not int64.
    """
    _checks.check_reduction(reduction)
    _checks.check_logits_and_targets(logits, targets, has_implicit_background=True)
    loss = shifted_binary_cross_entropy(_checks.widen(logits), targets, None)
    return _checks.reduce_loss(loss, reduction)
