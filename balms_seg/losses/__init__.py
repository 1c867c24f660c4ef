"""Losses for long-tailed recognition; pure torch."""

from balms_seg.losses._background import BACKGROUND_FORMS
from balms_seg.losses.balanced_sigmoid import balanced_sigmoid_loss
from balms_seg.losses.balanced_softmax import balanced_softmax_loss
from balms_seg.losses.balanced_softmax_with_background import balanced_softmax_loss_with_background
from balms_seg.losses.sigmoid import sigmoid_loss

__all__ = [
    "BACKGROUND_FORMS",
    "balanced_sigmoid_loss",
    "balanced_softmax_loss",
    "balanced_softmax_loss_with_background",
    "sigmoid_loss",
]
