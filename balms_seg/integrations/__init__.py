"""Balanced Softmax in models of other libraries, which are imported when a name is first used.

Each class leaves its library's loss as it is and shifts the logits that this is computed from, so
that equal counts give the library's own numbers. Inference, and the names of the weights, stay.
"""

from balms_seg.lazy_names import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "BalancedMask2FormerLoss": "mask2former_loss",
        "BalancedRetinaNetHead": "torchvision_heads",
        "BalancedRoIHeads": "torchvision_heads",
        "sigmoid_shift": "prior_shift",
        "softmax_shift": "prior_shift",
    },
)
