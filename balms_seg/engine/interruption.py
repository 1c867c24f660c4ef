"""A run that is told to stop keeps what it has done, and a resumed one makes up for the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.engine.hooks import EvalHook
from detectron2.utils import comm

from balms_seg.distributed import (
    on_main_process,
    same_statistics,
    sum_over_ranks,
    wait_for_all,
)
from balms_seg.engine.checkpoints.find import FINAL, named_checkpoint
from balms_seg.engine.weight_average import CHECKPOINT_KEY
from balms_seg.evaluation import read_results
from balms_seg.stop_signals import StoppedBySignal, stop_signals

logger = logging.getLogger(__name__)


class StopHook(HookBase):
    """Ends the run after an iteration in which any rank heard a signal, if something is left of it.

    To stand after the hook that saves checkpoints and before those that evaluate.
    """

    def after_step(self) -> None:
        """Agree with the other ranks, save, and stop."""
        trainer = self.trainer
        is_last = trainer.iter >= trainer.max_iter - 1
        if is_last and not any(isinstance(hook, EvalHook) for hook in trainer._hooks):
            return
        heard = torch.tensor(float(stop_signals.heard is not None))
        if sum_over_ranks(heard) > 0:
            save_interrupted(self.trainer)
            raise StoppedBySignal(stop_signals.heard or "a signal to another rank")


def evaluate_interruptibly(trainer: Any, evaluate: Callable[[], None]) -> None:
    """Run an evaluation on the averaged weights, if there are any; a signal ends it at once."""
    average = trainer.checkpointer.checkpointables.get(CHECKPOINT_KEY)
    try:
        with (
            average.applied() if average is not None else nullcontext(),
            same_statistics(trainer.checkpointer.model),
            stop_signals.at_once(),
        ):
            evaluate()
            wait_for_all()
    except StoppedBySignal:
        save_interrupted(trainer)
        raise


def save_interrupted(trainer: Any) -> None:
    """Write the checkpoint of the iteration that was just finished, unless it is there."""
    name = f"model_{trainer.iter:07d}"
    is_there = (Path(trainer.cfg.OUTPUT_DIR) / f"{name}.pth").is_file()
    if not is_there and trainer.iter < trainer.max_iter - 1:  # else there is model_final
        trainer.checkpointer.save(name, iteration=trainer.iter)


@contextmanager
def stops_told(trainer: Any) -> Iterator[None]:
    """Say, after a training that a signal ended and after its hooks' last lines, how it goes on."""
    try:
        yield
    except StoppedBySignal:
        logger.warning(
            "Stopped by a signal after iteration %d, whose checkpoint is in %s. The same command "
            "with --resume goes on.",
            min(trainer.iter, trainer.max_iter - 1),  # after the last one it stands one further
            trainer.cfg.OUTPUT_DIR,
        )
        raise


@contextmanager
def early_stops_told(what: str) -> Iterator[None]:
    """Say, where a signal ends a run before its work began, that it did nothing yet.

    Args:
        what: it did not do, as "trained".
    """
    try:
        yield
    except StoppedBySignal as stopped:
        if comm.is_main_process():
            logger.warning(
                "Stopped by %s before the start: this run %s nothing yet, and the same command "
                "starts it again.",
                *(stopped.name, what),
            )
        raise


class DueFinalCheckpoint(HookBase):
    """Writes model_final where a run ended right before, with all its iterations done and saved."""

    def before_train(self) -> None:
        """As after the last iteration."""
        trainer, done = self.trainer, self.trainer.start_iter
        if done == 0 or done < trainer.max_iter:
            return
        named = named_checkpoint(trainer.cfg.OUTPUT_DIR)
        if named is None or named.stem != FINAL:
            with after_iteration(trainer, done - 1):
                trainer.checkpointer.save(FINAL, iteration=done - 1)


class DueEvaluation(HookBase):
    """Makes up for the evaluation that the interrupted run did not get to, or through."""

    def before_train(self) -> None:
        """Run what is due at the iteration that the run goes on after."""
        trainer, done = self.trainer, self.trainer.start_iter
        due = [hook for hook in trainer._hooks if _is_due(hook, done)]
        if done == 0 or done >= trainer.max_iter or not due:
            return
        path = Path(trainer.cfg.OUTPUT_DIR) / "results.json"
        if on_main_process(lambda: _evaluated_iteration(path)) >= done:
            return
        logger.info("Making up for the evaluation after iteration %d.", done - 1)
        with after_iteration(trainer, done - 1):
            for hook in due:
                hook._do_eval()


@contextmanager
def after_iteration(trainer: Any, iteration: int) -> Iterator[None]:
    """Let hooks and checkpoints take it for the one that was just finished."""
    before = trainer.iter
    trainer.iter = trainer.storage.iter = iteration
    yield
    trainer.iter = trainer.storage.iter = before


def _is_due(hook: Any, done: int) -> bool:
    return isinstance(hook, EvalHook) and hook._period > 0 and done % hook._period == 0


def _evaluated_iteration(path: Path) -> int:
    """Iterations that the weights behind a results.json had seen; 0 where that is not known."""
    try:
        return read_results(path)["iteration"] or 0
    except (OSError, ValueError, KeyError):
        return 0
