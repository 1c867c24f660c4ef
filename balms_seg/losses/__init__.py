"""Losses for long-tailed recognition; pure torch."""

from balms_seg.losses._background import BACKGROUND_FORMS
from balms_seg.losses.balanced_sigmoid import balanced_sigmoid_loss
from balms_seg.losses.balanced_softmax import balanced_softmax_loss
from balms_seg.losses.balanced_softmax_with_background import balanced_softmax_loss_with_background
from balms_seg.losses.class_weights import effective_number_weights, inverse_frequency_weights
from balms_seg.losses.feature_balanced import feature_balanced_loss
from balms_seg.losses.focal import focal_loss
from balms_seg.losses.ldam import ldam_loss
from balms_seg.losses.logit_adjusted import logit_adjusted_loss
from balms_seg.losses.sigmoid import sigmoid_loss

__all__ = [
    "BACKGROUND_FORMS",
    "balanced_sigmoid_loss",
    "balanced_softmax_loss",
    "balanced_softmax_loss_with_background",
    "effective_number_weights",
    "feature_balanced_loss",
    "focal_loss",
    "inverse_frequency_weights",
    "ldam_loss",
    "logit_adjusted_loss",
    "sigmoid_loss",
]
