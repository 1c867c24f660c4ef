"""Classification methods by name, for boxes and for whole images; a new one is one more line."""

from balms_seg.methods.base import ClassifierMethod, Method, MethodOptions
from balms_seg.methods.image_base import ImageMethod, ImageMethodOptions, TrainingProgress
from balms_seg.methods.image_softmax import ImageBalancedSoftmax, ImageSoftmax
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
