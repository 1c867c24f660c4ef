"""Balanced Softmax as a shift of logits, for losses of others. K: classes without background."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from balms_seg.losses import _checks


def softmax_shift(counts: Tensor) -> Tensor:
    """(K,) log counts relative to their geometric mean: all 0 where the counts are equal.

    For softmax losses, on rows with an object; background's column and rows are left as they are
    (the form `neutral` of `balanced_softmax_loss_with_background`).

    Args:
        counts: (K,) positive training samples per class; only their ratios matter.

    Raises:
        ValueError: a count is not positive and finite.
    """
    _checks.check_class_vector(counts, name="counts", upper=math.inf)
    relative = (counts.double() / counts.max()).log()
    return (relative - relative.mean()).float()


def sigmoid_shift(frequency: Tensor) -> Tensor:
    """(K,) log-odds of the frequencies: 0 where half of the images have the class.

    For sigmoid losses, which have no column of background, on rows with an object
    (`balanced_sigmoid_loss`).

    Args:
        frequency: (K,) share of training images that hold the class, within (0, 1).

    Raises:
        ValueError: a frequency leaves (0, 1).
    """
    _checks.check_class_vector(frequency, name="frequency", upper=1.0)
    return torch.logit(frequency.double()).float()


def shifted(logits: Tensor, is_object: Tensor, shift: Tensor) -> Tensor:
    """Logits with the shift on the rows of objects, in float32 or wider.

    Args:
        logits: (..., C).
        is_object: (...) bool.
        shift: (C,).

    Raises:
        ValueError: the numbers of columns disagree.
    """
    if logits.shape[-1] != len(shift):
        raise ValueError(
            f"Expected a classifier of {len(shift)} columns, background included where it has one, "
            f"but got {logits.shape[-1]}; give counts or frequencies of the model's classes."
        )
    logits = _checks.widen(logits)
    return torch.where(is_object[..., None], logits + shift.to(logits), logits)
