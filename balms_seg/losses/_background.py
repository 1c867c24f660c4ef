"""What background gets in Balanced Softmax: the forms, their arguments, and the shift they mean."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

BACKGROUND_FORMS = ("foreground_only", "neutral", "factored", "prior")


def check_background(background: str, background_count: float | None) -> None:
    """Raise ValueError for an unknown form, and for a count that is missing, unused or unfit."""
    if background not in BACKGROUND_FORMS:
        raise ValueError(
            f"Expected background to be one of {BACKGROUND_FORMS}, but got {background!r}."
        )
    if background == "prior" and background_count is None:
        raise ValueError(
            'background="prior" needs background_count, the count of background in the unit of '
            "counts; pass it or choose another form."
        )
    if background != "prior" and background_count is not None:
        raise ValueError(
            f'background_count is used by background="prior" only, but background is '
            f"{background!r}; drop one of the two."
        )
    if background_count is not None and not 0 < background_count < math.inf:
        raise ValueError(
            f"Expected a positive and finite background_count, but got {background_count}."
        )


def background_shift(
    log_counts: Tensor, targets: Tensor, background: str, background_count: float | None
) -> tuple[Tensor, Tensor | None]:
    """The shift of the logits in every form but "factored", which is not one shift.

    Args:
        log_counts: (K,) logarithms of the class counts.
        targets: (N,) in [0, K]; K is background.
        background: "foreground_only", "neutral" or "prior".
        background_count: for "prior".

    Returns:
        (K+1,) shift, and (N,) whether a row takes it; None where every row does.
    """
    if background == "prior":
        assert background_count is not None
        return F.pad(log_counts, (0, 1), value=math.log(background_count)), None
    if background == "neutral":
        log_counts = log_counts - log_counts.mean()
    return F.pad(log_counts, (0, 1)), targets < len(log_counts)
