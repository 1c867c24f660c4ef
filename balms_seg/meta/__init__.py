"""The one-step bilevel update: meta gradient, class parameters, feature bank.

Pure torch.
"""

from balms_seg.meta.adam import AdamSettings
from balms_seg.meta.class_parameters import ClassParameters
from balms_seg.meta.feature_bank import FeatureBank
from balms_seg.meta.gradient import (
    LinearClassifier,
    MetaGradient,
    classifier_gradient,
    linear_classifier,
    one_step_meta_gradient,
    virtual_step,
)
from balms_seg.meta.reweighter import MetaReweighter
from balms_seg.meta.sgd import SGDSettings, sgd_settings

__all__ = [
    "AdamSettings",
    "ClassParameters",
    "FeatureBank",
    "LinearClassifier",
    "MetaGradient",
    "MetaReweighter",
    "SGDSettings",
    "classifier_gradient",
    "linear_classifier",
    "one_step_meta_gradient",
    "sgd_settings",
    "virtual_step",
]
