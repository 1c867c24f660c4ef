"""What a model tells its method about a batch: see `balms_seg.methods.LossContext`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from detectron2.utils.events import EventStorage, get_event_storage
from torch import Tensor

from balms_seg.methods import LossContext, Method, TrainingProgress
from balms_seg.modeling.keyed_sampling import batch_generator


@dataclass(frozen=True)
class TrainingSchedule:
    """How long a run is.

    Attributes:
        max_iter: its iterations.
        images_per_batch: over all ranks.
    """

    max_iter: int
    images_per_batch: int


def require_schedule(method: Method | type[Method], schedule: Any | None) -> None:
    """Stop before anything is loaded where a method is to be trained that asks how long the run is.

    Raises:
        ValueError: it does, and there is no schedule.
    """
    if method.needs_progress and schedule is None:
        kind = method if isinstance(method, type) else type(method)
        raise ValueError(
            f"{kind.__name__} changes on the way, so its training needs to know how long the run "
            "is: give schedule=TrainingSchedule(max_iter, images_per_batch), of balms_seg.modeling."
        )


def event_storage() -> EventStorage | None:
    """detectron2's storage of the running training; None outside of one."""
    try:
        return get_event_storage()
    except AssertionError:
        return None


def build_context(
    schedule: TrainingSchedule | None, *, features: Tensor | None, columns: Tensor | None = None
) -> LossContext:
    """The context of rows of the current batch.

    Args:
        schedule: of the run; None: methods are not told how far it is.
        features: (R, D) input of the classifier.
        columns: (R, K) bool, see `LossContext`.
    """
    storage, progress = event_storage(), None
    if storage is not None and schedule is not None:
        progress = TrainingProgress(storage.iter, schedule.max_iter, schedule.images_per_batch)
    return LossContext(features, progress, columns, batch_generator())


def row_losses(
    method: Method, logits: Tensor, targets: Tensor, context: LossContext, *, is_trained: bool
) -> Tensor:
    """(R,) losses of (R, C) logits.

    Args:
        method: of the classifier.
        logits: (R, C).
        targets: (R,) int64.
        context: of the rows.
        is_trained: whether the batch is trained on, which is so once; running state then changes.
    """
    logits = context.without_unknown(logits, targets, method.foreground_columns)
    compute = method.training_loss if is_trained else method.loss
    return compute(logits, targets, context)
