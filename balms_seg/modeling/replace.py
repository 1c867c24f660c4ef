"""Put a box classifier of this package into a model that is already built."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from torch import nn

from balms_seg.methods import METHODS, Method, MethodOptions
from balms_seg.modeling.box_predictor import LongTailedBoxPredictor

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics

logger = logging.getLogger(__name__)


def replace_box_classifier(
    model: nn.Module,
    method: str,
    statistics: ClassStatistics | None,
    options: MethodOptions | None = None,
) -> nn.Module:
    """Exchange the box classifier of a detectron2 model, in place.

    Box regression keeps its weights. The classifier keeps its weights where the number of columns
    stays the same (softmax to balanced_softmax, say) and starts anew where it does not.

    Args:
        model: a built model whose `roi_heads.box_predictor` is detectron2's `FastRCNNOutputLayers`,
            one or (cascade) a list of them.
        method: a key of `balms_seg.methods.METHODS`.
        statistics: of the training set; None if the model is only to predict.
        options: the method's settings.

    Returns:
        The same model.

    Raises:
        ValueError: the method is unknown, or the statistics are of another number of classes.
        TypeError: the model has no such box predictor.
    """
    if method not in METHODS:
        raise ValueError(f"Expected a method out of {', '.join(METHODS)}, but got {method!r}.")
    heads = getattr(model, "roi_heads", None)
    predictor = getattr(heads, "box_predictor", None)

    def replaced(old: nn.Module | None) -> LongTailedBoxPredictor:
        if not isinstance(old, FastRCNNOutputLayers):
            raise TypeError(
                "Expected a model with detectron2's StandardROIHeads or CascadeROIHeads, whose "
                f"box_predictor is FastRCNNOutputLayers, but got {type(old).__name__}."
            )
        new_method = METHODS[method](old.num_classes, statistics=statistics, options=options)
        return _with_method(old, new_method)

    if isinstance(predictor, nn.ModuleList):
        heads.box_predictor = nn.ModuleList(replaced(old) for old in predictor)
    else:
        heads.box_predictor = replaced(predictor)
    return model


def _with_method(old: FastRCNNOutputLayers, method: Method) -> LongTailedBoxPredictor:
    classifier = old.cls_score
    new = LongTailedBoxPredictor(
        input_shape=classifier.in_features,
        method=method,
        num_classes=old.num_classes,
        box2box_transform=old.box2box_transform,
        test_score_thresh=old.test_score_thresh,
        test_nms_thresh=old.test_nms_thresh,
        test_topk_per_image=old.test_topk_per_image,
        cls_agnostic_bbox_reg=old.bbox_pred.out_features == len(old.box2box_transform.weights),
        smooth_l1_beta=old.smooth_l1_beta,
        box_reg_loss_type=old.box_reg_loss_type,
        loss_weight=old.loss_weight,
    )
    new.bbox_pred = old.bbox_pred
    if classifier.out_features == method.num_columns:
        new.cls_score = classifier
    else:
        logger.info(
            "The box classifier has %d columns now and had %d; it starts from initialisation.",
            method.num_columns,
            classifier.out_features,
        )
    return new.to(classifier.weight.device).train(old.training)
