"""Brings the training set's statistics into a model that is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from balms_seg.modeling.classifier_init import classifiers_of

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


def prepare_model(model: nn.Module, statistics: ClassStatistics | None) -> nn.Module:
    """Prepare the method of every classifier, in place.

    Args:
        model: an image classifier, or a detector with this package's heads.
        statistics: of the training set; None where the model is only to predict.

    Returns:
        The same model.

    Raises:
        ValueError: the statistics are of another number of classes.
    """
    for classifier, method in classifiers_of(model):
        method.prepare(statistics)
        method.to(next(classifier.parameters()).device)
    return model
