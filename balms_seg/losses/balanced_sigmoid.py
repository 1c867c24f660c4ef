"""The sigmoid form of Balanced Softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from balms_seg.losses import _checks
from balms_seg.losses._binary_cross_entropy import shifted_binary_cross_entropy


def balanced_sigmoid_loss(
    logits: Tensor, targets: Tensor, frequency: Tensor, *, reduction: str = "mean"
) -> Tensor:
    """Binary cross-entropy on logits - log((1 - f) / f), for foreground rows; plain on background.

    Background rows keep the plain sigmoid because taking gradient from background makes false
    positives. At test time the plain sigmoid of the unshifted logits is used.

    Args:
        logits: (N, K) unnormalised scores; half precision is computed in float32.
        targets: (N,) int64 in [0, K]; K is background.
        frequency: (K,) share of training images that hold the class, strictly within (0, 1).
        reduction: "none" gives (N,); "mean" (divides by N) and "sum" give a scalar, 0 where N = 0.

    Returns:
        Loss in nats, in float32 or wider: the sum over classes. Equal to `sigmoid_loss` where every
        f is 1/2 and on batches without foreground.

    Raises:
        ValueError: shapes disagree, `frequency` leaves (0, 1), a target is out of range (on the
            CPU), or `reduction` is unknown.
        TypeError: logits are not floating-point or targets not int64.

    Source: Ren et al. 2020 (arXiv 2007.10740), supplement A.2 with its remark for instance
    segmentation; the constant (n/k) / (n - n/k) is dropped, as there.
    """
    _checks.check_reduction(reduction)
    _checks.check_logits_and_targets(logits, targets, has_implicit_background=True)
    _checks.check_class_vector(frequency, name="frequency", num_classes=logits.shape[1], upper=1.0)
    logits = _checks.widen(logits)
    shift = torch.logit(_checks.widen(frequency)).to(logits)
    return _checks.reduce_loss(shifted_binary_cross_entropy(logits, targets, shift), reduction)
