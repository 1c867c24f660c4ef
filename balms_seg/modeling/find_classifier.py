"""Finds the classifier that trains alone in a model of either job."""

from __future__ import annotations

from torch import nn

from balms_seg.modeling.box_rows import box_classifier_view, trains_box_classifier_alone
from balms_seg.modeling.classifier_rows import ClassifierView
from balms_seg.modeling.image_rows import image_classifier_view, trains_image_classifier_alone


def find_classifier_view(model: nn.Module) -> ClassifierView | None:
    """The classifier of a model of which it alone trains; None of others."""
    if trains_box_classifier_alone(model):
        return box_classifier_view(model)
    if trains_image_classifier_alone(model):
        return image_classifier_view(model)
    return None
