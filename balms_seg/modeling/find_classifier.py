"""Finds the classifier that trains alone in a model of either job."""

from __future__ import annotations

from torch import nn

from balms_seg.modeling.box_rows import box_trunk, trains_box_classifier_alone
from balms_seg.modeling.classifier_rows import ClassifierView
from balms_seg.modeling.image_rows import image_trunk, trains_image_classifier_alone


def find_trunk(model: nn.Module) -> ClassifierView | None:
    """The trunk of a model of which the classifier alone trains; None of others."""
    if trains_box_classifier_alone(model):
        return box_trunk(model)
    if trains_image_classifier_alone(model):
        return image_trunk(model)
    return None
