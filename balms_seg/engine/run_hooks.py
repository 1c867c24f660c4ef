"""The hooks that a run has besides detectron2's, each in its place among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from detectron2.engine import hooks
from detectron2.utils import comm

from balms_seg.engine.best_checkpoint import BestCheckpoint
from balms_seg.engine.interruption import DueEvaluation, DueFinalCheckpoint, StopHook
from balms_seg.engine.meta.class_values import ClassValueRecorder
from balms_seg.engine.weight_average import CHECKPOINT_KEY, WeightAverage

if TYPE_CHECKING:
    from detectron2.engine import DefaultTrainer


def with_run_hooks(trainer: DefaultTrainer, built: list[Any]) -> list[Any]:
    """detectron2's hooks, and those of the meta step, the average, signals and best checkpoint.

    Without DATASETS.TEST nothing evaluates, so a signal in the last iteration finds nothing left.

    Args:
        trainer: with its step and checkpointer.
        built: detectron2's.
    """
    cfg, first = trainer.cfg, []
    if cfg.SOLVER.EMA_DECAY > 0:
        average = WeightAverage(trainer.checkpointer.model, cfg.SOLVER.EMA_DECAY)
        trainer.checkpointer.add_checkpointable(CHECKPOINT_KEY, average)
        first.append(average)
    meta = getattr(trainer._trainer, "meta", None)
    if meta is not None:  # first, so that checkpoints and writers find what it did
        path = f"{cfg.OUTPUT_DIR}/meta_rates.csv"
        recorder = ClassValueRecorder(
            meta.learner, trainer.statistics, max_iter=trainer.max_iter, path=path
        )
        first.append(recorder)
    evaluated = []
    if not cfg.DATASETS.TEST:
        built = [hook for hook in built if not isinstance(hook, hooks.EvalHook)]
    elif cfg.TEST.AUG.ENABLED:
        evaluated.append(hooks.EvalHook(0, lambda: trainer._test_with_augmentation()))
    if cfg.TEST.BEST_METRIC and comm.is_main_process():
        evaluated.append(BestCheckpoint(trainer.checkpointer, cfg.TEST.BEST_METRIC))
    about_ends = [StopHook(), DueFinalCheckpoint(), DueEvaluation()]
    with_signals = _before(hooks.EvalHook, [*first, *built], about_ends)
    return _before(hooks.PeriodicWriter, with_signals, evaluated)


def _before(kind: type, built: list[Any], added: list[Any]) -> list[Any]:
    """With hooks added before the first of a kind, or at the end where there is none."""
    places = (i for i, hook in enumerate(built) if isinstance(hook, kind))
    place = next(places, len(built))
    return [*built[:place], *added, *built[place:]]
