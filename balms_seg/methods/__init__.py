"""Classification methods by name, for boxes and for whole images; a new one is one more line."""

from balms_seg.methods.base import ClassifierMethod, Method, MethodOptions
from balms_seg.methods.image_base import ImageMethod, ImageMethodOptions, TrainingProgress
from balms_seg.methods.image_feature_balanced import ImageFeatureBalanced
from balms_seg.methods.image_softmax import (
    ImageBalancedSoftmax,
    ImageLogitAdjustment,
    ImagePostHocLogitAdjustment,
    ImageSoftmax,
)
from balms_seg.methods.image_weighted import (
    ImageCBLoss,
    ImageClassBalancedWeighting,
    ImageFocal,
    ImageLDAM,
    ImageLDAMDRW,
)
from balms_seg.methods.sigmoid import BalancedSigmoid, Sigmoid
from balms_seg.methods.softmax import BalancedSoftmax, Softmax

METHODS: dict[str, type[Method]] = {
    "softmax": Softmax,
    "sigmoid": Sigmoid,
    "balanced_softmax": BalancedSoftmax,
    "balanced_sigmoid": BalancedSigmoid,
}

IMAGE_METHODS: dict[str, type[ImageMethod]] = {
    "softmax": ImageSoftmax,
    "balanced_softmax": ImageBalancedSoftmax,
    "logit_adjustment": ImageLogitAdjustment,
    "post_hoc_logit_adjustment": ImagePostHocLogitAdjustment,
    "focal": ImageFocal,
    "class_balanced_weighting": ImageClassBalancedWeighting,
    "cb_loss": ImageCBLoss,
    "ldam": ImageLDAM,
    "ldam_drw": ImageLDAMDRW,
    "feature_balanced": ImageFeatureBalanced,
}

__all__ = [
    "IMAGE_METHODS",
    "METHODS",
    "ClassifierMethod",
    "ImageMethod",
    "ImageMethodOptions",
    "Method",
    "MethodOptions",
    "TrainingProgress",
]
