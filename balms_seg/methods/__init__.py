"""Box-classification methods by name; a new one is one file and one line here."""

from balms_seg.methods.base import Method, MethodOptions
from balms_seg.methods.sigmoid import BalancedSigmoid, Sigmoid
from balms_seg.methods.softmax import BalancedSoftmax, Softmax

METHODS: dict[str, type[Method]] = {
    "softmax": Softmax,
    "sigmoid": Sigmoid,
    "balanced_softmax": BalancedSoftmax,
    "balanced_sigmoid": BalancedSigmoid,
}

__all__ = ["METHODS", "Method", "MethodOptions"]
