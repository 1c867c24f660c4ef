"""Balanced Softmax for detection, where the last column is background."""

from __future__ import annotations

import math

from torch import Tensor

from balms_seg.losses import _checks
from balms_seg.losses._background import background_shift, check_background
from balms_seg.losses._cross_entropy import shifted_cross_entropy
from balms_seg.losses._factored_cross_entropy import factored_cross_entropy


def balanced_softmax_loss_with_background(
    logits: Tensor,
    targets: Tensor,
    counts: Tensor,
    *,
    background: str = "foreground_only",
    background_count: float | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Balanced Softmax over K foreground classes and background, the last column.

    The scale of the counts moves foreground against background, so each form says what background
    gets. With z the logits and n the counts:

    - "foreground_only": foreground rows take z_j + log n_j on the foreground columns; the
      background column and background rows are untouched. Cross-entropy where all counts are 1.
    - "neutral": the same with the counts divided by their geometric mean, hence scale-invariant.
    - "factored": -log p(foreground) - log balanced p(class | foreground), where p(foreground) is
      not shifted; -log p(background) for background rows. Scale-invariant.
    - "prior": every row is shifted, the background column by log `background_count`. Scaling all
      counts, background included, changes nothing.

    Args:
        logits: (N, K+1) unnormalised scores; half precision is computed in float32.
        targets: (N,) int64 in [0, K]; K is background.
        counts: (K,) positive training samples per foreground class.
        background: one of the four forms above.
        background_count: positive count of background, in the unit of `counts`; needed by "prior"
            and by nothing else.
        reduction: "none" gives (N,); "mean" and "sum" give a scalar, 0 where N = 0.

    Returns:
        Loss in nats, in float32 or wider. A batch without foreground has the plain background loss,
        except under "prior".

    Raises:
        ValueError: shapes disagree, `counts` or `background_count` are not positive and finite, the
            form is unknown, `background_count` is missing or unused, a target is out of range (on
            the CPU), or `reduction` is unknown.
        TypeError: logits are not floating-point or targets not int64.

    Source: Ren et al. 2020 (arXiv 2007.10740), Balanced Softmax; "foreground_only" carries the rule
    of its supplement A.2 (shift foreground samples only) over to the softmax, which is ours.
    """
    _checks.check_reduction(reduction)
    _checks.check_logits_and_targets(logits, targets, min_columns=2)
    num_classes = logits.shape[1] - 1
    _checks.check_class_vector(counts, name="counts", num_classes=num_classes, upper=math.inf)
    check_background(background, background_count)

    logits = _checks.widen(logits)
    counts = _checks.widen_with(counts, logits)
    if background == "factored":
        loss = factored_cross_entropy(logits, targets, counts.to(logits))
    else:
        shift, is_shifted = background_shift(counts.log(), targets, background, background_count)
        mask = None if is_shifted is None else is_shifted.to(logits)
        loss = shifted_cross_entropy(logits, targets, shift.to(logits), mask)
    return _checks.reduce_loss(loss, reduction)
