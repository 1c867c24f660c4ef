"""Brings the training set's statistics into a model that is built."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torch import nn

from balms_seg.modeling.box_predictor import LongTailedBoxPredictor
from balms_seg.modeling.image_classifier import ImageClassifier
from balms_seg.wording import counted

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics
    from balms_seg.methods import Method

logger = logging.getLogger(__name__)


def prepare_model(
    model: nn.Module, statistics: ClassStatistics | None, *, training: bool = True
) -> nn.Module:
    """Give every classifier of this package what it needs of the training set, in place.

    Args:
        model: an image classifier or a detector; one without classifiers of this package stays as
            it is, which a warning says.
        statistics: of the training set; None where the model is only to predict.
        training: whether it is to be trained; else there is nothing to warn of.

    Returns:
        The same model.

    Raises:
        FileNotFoundError: scores are calibrated by counts, and there are no statistics.
        ValueError: the statistics are of another number of classes.
    """
    classifiers = [
        module
        for module in model.modules()
        if isinstance(module, LongTailedBoxPredictor | ImageClassifier)
    ]
    for module in classifiers:
        module.prepare(statistics)
        module.to(next(module.parameters()).device)
    if training and classifiers and statistics is not None:
        tell_method(classifiers[0].method, statistics)
    if training and not classifiers:
        logger.warning(
            "The model has no classifier of balms_seg, so it trains as detectron2 has it: set "
            "MODEL.ROI_HEADS.NAME to LongTailedROIHeads (of a cascade CascadeLongTailedROIHeads), "
            "or call replace_box_classifier."
        )
    return model


def tell_method(method: Method, statistics: ClassStatistics) -> None:
    """Log what a classifier is trained with."""
    objects, images = int(statistics.instance_counts.sum()), statistics.num_images
    pasted = statistics.pasted and statistics.pasted.instances.sum()
    logger.info(
        "The classifier is trained with %s on %s%s%s.",
        type(method).__name__,
        counted(images, "image", ","),
        "" if objects == images else f" with {counted(objects, 'object', ',')}",
        "" if pasted is None else f", and about {pasted:,.0f} pasted ones in each pass",
    )
