"""The sets of DATASETS.TEST, each with its loader and its evaluator."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from detectron2.evaluation import inference_on_dataset
from detectron2.utils import comm

from balms_seg.engine.mixed_precision import autocast
from balms_seg.engine.run_results import current_iteration, log_copy_paste_lines, save_results
from balms_seg.evaluation.predictions.resumed_evaluation import weights_fingerprint
from balms_seg.stop_signals import StoppedBySignal

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from detectron2.evaluation import DatasetEvaluator

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class EvaluatedSet:
    """One set; may be evaluated any number of times.

    Attributes:
        name: registered.
        loader: of its images.
        evaluator: reads the annotations once, when it is made.
    """

    name: str
    loader: Iterable[Any]
    evaluator: DatasetEvaluator

    def writing_to(self, output_dir: str) -> EvaluatedSet:
        """The same set, with results in another folder."""
        return replace(self, evaluator=self.evaluator.writing_to(output_dir))


def evaluate_sets(
    cfg: CfgNode,
    model: Any,
    sets: Sequence[EvaluatedSet],
    *,
    mixed_precision: torch.dtype | None = None,
) -> dict[str, Any]:
    """Evaluate a model on sets, and write `OUTPUT_DIR/results.json`.

    Args:
        cfg: of the run, for results.json and the device.
        model: with its weights loaded.
        sets: to evaluate on.
        mixed_precision: half-precision type of inference; None: no mixed precision.

    Returns:
        task -> metric -> percent, under the set's name first if there are several sets; {} on
        ranks other than the main one.
    """
    results, group_sizes, evaluations = OrderedDict(), {}, {}
    device_type = torch.device(cfg.MODEL.DEVICE).type
    for each in sets:
        evaluator, loader = each.evaluator, each.loader
        if hasattr(evaluator, "remaining"):  # after an interrupted evaluation
            in_training = current_iteration() is not None
            loader = evaluator.remaining(loader, model, in_training=in_training)
        try:
            with autocast(device_type, mixed_precision):
                results[each.name] = inference_on_dataset(model, loader, evaluator) or {}
        except BaseException as error:
            evaluator.reset()  # closes its files, for whoever takes them up
            if isinstance(error, StoppedBySignal):
                logger.warning(_describe_stop(each))
            raise
        group_sizes[each.name] = getattr(evaluator, "group_sizes", None)
        evaluations[each.name] = getattr(evaluator, "evaluation", None)
        if comm.is_main_process():
            log_copy_paste_lines(each.name, results[each.name])
    if comm.is_main_process() and any(results.values()):
        weights = weights_fingerprint(model)
        save_results(cfg, results, group_sizes, evaluations, weights=weights)
    return next(iter(results.values())) if len(results) == 1 else results


def _describe_stop(stopped: EvaluatedSet) -> str:
    """What is left of an evaluation; how to go on, too, where no training says so at its end."""
    kept_in = getattr(stopped.evaluator, "kept_in", None)
    left, further = "No prediction is kept", "starts it anew"
    if kept_in is not None:
        left, further = f"What was predicted is kept in {kept_in}", "goes on with the other images"
    if current_iteration() is None:
        left += f": the same command {further}"
    return f"Stopped while evaluating on {stopped.name}. {left}."
