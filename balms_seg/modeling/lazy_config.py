"""Our box classifier in detectron2's Python configurations (LazyConfig)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from detectron2.config import LazyCall

from balms_seg.methods import Method, find_method
from balms_seg.modeling.box_predictor import LongTailedBoxPredictor
from balms_seg.modeling.loss_context import TrainingSchedule, require_schedule


def set_method(
    box_predictors: Any, method: str, *, schedule: Any | None = None, **settings: Any
) -> None:
    """Make configured box predictors ours, in place, as Python configurations are changed.

    Args:
        box_predictors: `model.roi_heads.box_predictor`, or of a cascade the list `box_predictors`;
            a `LazyCall` of detectron2's `FastRCNNOutputLayers`.
        method: a key of `balms_seg.methods.METHODS`.
        schedule: a `TrainingSchedule`, or a `LazyCall` of one that follows the configuration's
            iterations; needed by methods that change on the way.
        settings: of the method.

    Raises:
        ValueError: the method is unknown, or lacks a schedule.
    """
    require_schedule(find_method(method), schedule)
    for predictor in [box_predictors] if hasattr(box_predictors, "keys") else box_predictors:
        predictor._target_ = LongTailedBoxPredictor
        predictor.method = LazyCall(configured_method)(
            name=method, num_classes="${..num_classes}", settings=settings
        )
        if isinstance(schedule, TrainingSchedule):  # a dataclass would become a dictionary there
            predictor.schedule = LazyCall(TrainingSchedule)(**asdict(schedule))
        elif schedule is not None:
            predictor.schedule = schedule


def configured_method(name: str, num_classes: int, settings: dict[str, Any]) -> Method:
    """A method for boxes, as a Python configuration names it."""
    method = find_method(name)
    return method(num_classes, has_background=True, settings=method.Settings(**settings))
