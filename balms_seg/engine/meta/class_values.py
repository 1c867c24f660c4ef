"""What a meta step has learned so far, for the log, for tensorboard and for a table."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor

from balms_seg.csv_files import csv_file
from balms_seg.engine.meta.class_learners import ClassLearner

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics

_LOG_PERIOD = 20  # iterations; that of detectron2's writers
_NUM_SNAPSHOTS = 20  # after the one at the start
_COLUMNS = (
    "class_id",
    "name",
    "group",
    "training_images",
    "training_instances",
    "iteration",
    "value",
)


class ClassValueRecorder(HookBase):
    """Puts summaries of the learned values into the event storage, and writes meta_rates.csv.

    The table has every class at the start, at the end and at evenly spaced iterations between; the
    snapshots are part of the checkpoint.
    """

    def __init__(
        self, learner: ClassLearner, statistics: ClassStatistics, *, max_iter: int, path: str
    ) -> None:
        """Record a learner.

        Args:
            learner: of this run.
            statistics: of the training set.
            max_iter: iterations of the run.
            path: of the csv; written by the main process when training ends.
        """
        self._learner, self._statistics = learner, statistics
        self._max_iter, self._path = max_iter, path
        self._iterations: list[int] = []
        self._values: list[torch.Tensor] = []

    def before_train(self) -> None:
        """Take the snapshot of the start, unless a checkpoint brought it."""
        if not self._iterations:
            self._take_snapshot(self.trainer.iter)

    def after_step(self) -> None:
        """Log and take a snapshot where one is due."""
        done = self.trainer.iter + 1
        if done % _LOG_PERIOD == 0 or done == self._max_iter:
            self._log()
        step, previous = (n * _NUM_SNAPSHOTS // self._max_iter for n in (done, done - 1))
        if step > previous:
            self._take_snapshot(done)

    def after_train(self) -> None:
        """Write the table."""
        if comm.is_main_process():
            os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
            with csv_file(self._path) as writer:
                writer.writerows([_COLUMNS, *self._rows()])

    def state_dict(self) -> dict[str, Any]:
        """The snapshots."""
        if not self._iterations:
            return {}
        return {"iterations": [*self._iterations], "values": torch.stack(self._values)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the snapshots; those of another number of classes are an error elsewhere."""
        self._iterations = [*state["iterations"]]
        self._values = list(state["values"].unbind())

    def _take_snapshot(self, iteration: int) -> None:
        self._iterations.append(iteration)
        self._values.append(self._learner.values())

    def _log(self) -> None:
        values = self._learner.values()
        summary: dict[str, Tensor | float] = {
            "mean": values.mean(),
            "min": values.min(),
            "max": values.max(),
        }
        for name, members in self._statistics.groups.items():
            if len(members):
                summary[name] = values[torch.from_numpy(members)].mean()
        summary |= self._learner.summary()
        scalars = {f"meta/{name}": float(value) for name, value in summary.items()}
        get_event_storage().put_scalars(smoothing_hint=False, **scalars)

    def _rows(self) -> list[tuple]:
        known = self._statistics
        columns = zip(
            range(known.num_classes),
            known.class_names,
            (known.group_names[group] for group in known.group_ids),
            known.image_counts.tolist(),
            known.instance_counts.tolist(),
            strict=True,
        )
        return [
            (*column, iteration, f"{values[column[0]].item():.6g}")
            for column in columns
            for iteration, values in zip(self._iterations, self._values, strict=True)
        ]
