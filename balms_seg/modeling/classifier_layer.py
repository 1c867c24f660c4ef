"""The layer that makes logits of features, as a method needs it."""

from __future__ import annotations

from torch import nn

from balms_seg.methods import Method
from balms_seg.modeling.cosine_classifier import CosineClassifier

CLASSIFIER_KINDS = ("auto", "linear", "cosine")
BOX_COSINE_SCALE, IMAGE_COSINE_SCALE = 20.0, 30.0  # as Seesaw and as LDAM have it


def classifier_kind(method: Method, kind: str) -> str:
    """What is asked for, linear or cosine; "auto" is what the method is made for.

    Raises:
        ValueError: the kind is unknown, or linear where the loss is of cosines.
    """
    if kind not in CLASSIFIER_KINDS:
        raise ValueError(f"Expected a kind out of {', '.join(CLASSIFIER_KINDS)}, but got {kind!r}.")
    if kind == "linear" and method.needs_cosines:
        raise ValueError(
            f"Expected a classifier of cosines for the loss of {type(method).__name__}, but got "
            "linear; choose auto."
        )
    return method.classifier_kind if kind == "auto" else kind


def build_classifier(
    in_features: int, method: Method, *, kind: str = "auto", cosine_scale: float
) -> nn.Linear | CosineClassifier:
    """A classifier of a method's columns, as the method initialises it.

    Args:
        in_features: D.
        method: decides the columns, and how they start.
        kind: "linear", "cosine", or "auto" for what the method is made for.
        cosine_scale: what cosines are multiplied with, unless the method says.
    """
    layer: nn.Linear | CosineClassifier
    if classifier_kind(method, kind) == "cosine":
        scale = method.cosine_scale or cosine_scale
        layer = CosineClassifier(in_features, method.num_columns, scale=scale)
    else:
        layer = nn.Linear(in_features, method.num_columns)
    method.init_classifier(layer)
    return layer
