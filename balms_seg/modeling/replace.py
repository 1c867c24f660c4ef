"""Put a box classifier of this package into a model that is already built."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

import torch
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from torch import nn

from balms_seg.methods import Method, MethodSettings, find_method
from balms_seg.modeling.box_predictor import LongTailedBoxPredictor
from balms_seg.modeling.loss_context import TrainingSchedule, require_schedule
from balms_seg.modeling.own_losses import warn_of_lost_losses
from balms_seg.modeling.prepare import tell_method
from balms_seg.modeling.replaced_parameters import note_replaced

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics

logger = logging.getLogger(__name__)


def replace_box_classifier(
    model: nn.Module,
    method: str | type[Method] | Method,
    statistics: ClassStatistics | None,
    settings: MethodSettings | None = None,
    *,
    schedule: TrainingSchedule | None = None,
) -> nn.Module:
    """Exchange the box classifier of a detectron2 model, in place.

    Box regression keeps its weights. The classifier keeps its weights where it has as many columns
    as before (softmax to balanced_softmax, say; detectron2's `use_sigmoid_ce` to sigmoid, too) and
    starts anew where it does not; a bias that is the same in all columns is untrained and becomes
    the method's initial one. Build the optimiser
    afterwards: one that was built before holds the old classifier's parameters, and its first step
    is refused where the classifier started anew.

    Args:
        model: a built model whose `roi_heads.box_predictor` is detectron2's `FastRCNNOutputLayers`,
            one or (cascade) a list of them.
        method: a key of `balms_seg.methods.METHODS`, a class of `Method`, registered or not, or an
            object of one. The stages of a cascade get copies of an object.
        statistics: of the training set; None if the model is only to predict.
        settings: of the method, unless it is an object, which has its own.
        schedule: of the training, for methods that change on the way, which need it where there
            are statistics.

    Returns:
        The same model.

    Raises:
        ValueError: the method is unknown, of another number of classes or without background, or
            lacks a schedule, or the statistics are of another number of classes.
        TypeError: the model has no such box predictor, or the method is nothing of the kind.
    """
    heads: Any = getattr(model, "roi_heads", None)
    predictor = getattr(heads, "box_predictor", None)

    def replaced(
        old: nn.Module | None, method: str | type[Method] | Method
    ) -> LongTailedBoxPredictor:
        if not isinstance(old, FastRCNNOutputLayers):
            raise TypeError(
                "Expected a model with detectron2's StandardROIHeads or CascadeROIHeads, whose "
                f"box_predictor is FastRCNNOutputLayers, but got {type(old).__name__}."
            )
        new_method = _method_of(method, old.num_classes, settings)
        if statistics is not None:
            require_schedule(new_method, schedule)
        new_method.prepare(statistics)
        warn_of_lost_losses(old, new_method)
        with torch.random.fork_rng(devices=[]):  # what is drawn later stays what it was
            return _with_method(old, new_method, schedule)

    if isinstance(predictor, nn.ModuleList):
        new = [replaced(old, copy.deepcopy(method)) for old in predictor]
        heads.box_predictor = nn.ModuleList(new)
    else:
        new = [replaced(predictor, method)]
        heads.box_predictor = new[0]
    if statistics is not None:
        tell_method(new[0].method, statistics)
    return model


def _method_of(
    method: str | type[Method] | Method, num_classes: int, settings: MethodSettings | None
) -> Method:
    """A method for boxes of so many classes."""
    if isinstance(method, Method):
        if settings is not None:
            raise ValueError(
                f"Expected no settings beside an object of {type(method).__name__}, which has its "
                "own; build it with them."
            )
        if method.num_classes != num_classes or not method.has_background:
            raise ValueError(
                f"Expected a method of {num_classes} classes with background, but got one of "
                f"{method.num_classes} {'with' if method.has_background else 'without'}; build it "
                f"as {type(method).__name__}({num_classes}, has_background=True)."
            )
        return method
    found = find_method(method) if isinstance(method, str) else method
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise TypeError(
            "Expected a method's name, a class of balms_seg.methods.Method or an object of one, "
            f"but got {method!r}."
        )
    return found(num_classes, has_background=True, settings=settings)


def _with_method(
    old: FastRCNNOutputLayers, method: Method, schedule: TrainingSchedule | None
) -> LongTailedBoxPredictor:
    classifier = old.cls_score
    new = LongTailedBoxPredictor(
        input_shape=classifier.in_features,
        method=method,
        schedule=schedule,
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
    kept = _read_columns(old, method)
    if type(new.cls_score) is type(kept) and new.cls_score.out_features == kept.out_features:
        _start_bias(kept, new.cls_score)
        new.cls_score = kept
    else:
        logger.info(
            "The box classifier is %s and was %s; it starts from initialisation.",
            _described(new.cls_score),
            _described(classifier),
        )
    if new.cls_score is not classifier:
        note_replaced(classifier, new.cls_score)
    return new.to(classifier.weight.device).train(old.training)


@torch.no_grad()
def _read_columns(old: FastRCNNOutputLayers, method: Method) -> Any:
    """The classifier; for a method of K columns without the last one of detectron2's sigmoids.

    With `use_sigmoid_ce` detectron2 (main) has K + 1 columns, of which nothing reads the last.
    """
    layer, num_classes = old.cls_score, old.num_classes
    is_read_in_part = getattr(old, "use_sigmoid_ce", False) and isinstance(layer, nn.Linear)
    if not is_read_in_part or method.num_columns != num_classes:
        return layer
    read = nn.Linear(layer.in_features, num_classes).to(layer.weight)
    read.weight.copy_(layer.weight[:num_classes])
    read.bias.copy_(layer.bias[:num_classes])
    return read


@torch.no_grad()
def _start_bias(kept: nn.Module, fresh: nn.Module) -> None:
    """Start a kept classifier at its new method's bias where its own, all alike, is untrained."""
    old, new = getattr(kept, "bias", None), getattr(fresh, "bias", None)
    if old is not None and new is not None and (old == old[0]).all():
        old.copy_(new)


def _described(layer: nn.Module) -> str:
    return f"{type(layer).__name__} of {layer.out_features} columns"
