"""Keeps the checkpoint that evaluated best."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

from detectron2.engine import HookBase
from detectron2.evaluation.testing import flatten_results_dict

from balms_seg.engine.checkpoints.find import BEST
from balms_seg.engine.checkpoints.read_file import read_entries
from balms_seg.engine.interruption import after_iteration

if TYPE_CHECKING:
    from balms_seg.engine.checkpoints import LongTailedCheckpointer

logger = logging.getLogger(__name__)


class BestCheckpoint(HookBase):
    """Writes model_best.pth whenever an evaluation gives a higher score than all before.

    What was best stands in the file itself, so a resumed run compares with it. For the main
    process, after the hooks that evaluate.
    """

    def __init__(self, checkpointer: LongTailedCheckpointer, metric: str) -> None:
        """Watch a metric.

        Args:
            checkpointer: of the run.
            metric: as results name it, such as segm/AP; larger is better.
        """
        self._checkpointer, self._metric = checkpointer, metric
        self._best = -math.inf
        self._seen = -1

    def before_train(self) -> None:
        """Take the score of the best checkpoint so far, where the run goes on."""
        path = Path(self._checkpointer.save_dir) / f"{BEST}.pth"
        entries = read_entries(path) if self.trainer.start_iter > 0 and path.is_file() else None
        if entries and entries.get("best", {}).get("metric") == self._metric:
            self._best = entries["best"]["value"]

    def before_step(self) -> None:
        """Catch an evaluation that was made up for when the run resumed."""
        self._compare()

    def after_step(self) -> None:
        """Compare after a periodic evaluation."""
        self._compare()

    def after_train(self) -> None:
        """Compare after the last evaluation."""
        self._compare()

    def _compare(self) -> None:
        value, iteration = self.trainer.storage.latest().get(self._metric, (math.nan, -1))
        if iteration <= self._seen:
            self._require_known()
            return
        self._seen = iteration
        if not value > self._best:
            return
        logger.info("%s is %.4f, the best so far.", self._metric, value)
        self._best = value
        finished = min(iteration, self.trainer.max_iter - 1)
        with after_iteration(self.trainer, finished):  # else a run would go on one too late
            self._checkpointer.save(
                BEST,
                tag=False,  # it is overwritten
                iteration=finished,
                best={"metric": self._metric, "value": value},
            )

    def _require_known(self) -> None:
        results = flatten_results_dict(getattr(self.trainer, "_last_eval_results", None) or {})
        if results and self._metric not in results:
            raise ValueError(
                f"TEST.BEST_METRIC is {self._metric!r}, but the evaluation has "
                f"{', '.join(sorted(results))}; name one of them."
            )
