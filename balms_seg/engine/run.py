"""What `balms-seg train` does on each rank once the configuration stands."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectron2.evaluation import verify_results
from detectron2.utils import comm

from balms_seg.engine.checkpoints import LongTailedCheckpointer
from balms_seg.engine.class_checks import check_classes, class_record, loaded_classes
from balms_seg.engine.interruption import early_stops_told
from balms_seg.engine.jobs.choice import build_job
from balms_seg.engine.normalisation import require_same_normalisation
from balms_seg.engine.output_folder import without_failed_start
from balms_seg.engine.run_data import (
    DataSets,
    RunData,
    statistics_if_available,
    training_set_if_available,
)
from balms_seg.engine.run_summary import describe_start
from balms_seg.engine.trainer import LongTailedTrainer
from balms_seg.evaluation.output.results_file import (
    CHECKPOINT_ENTRY,
    CONFIGURED_SEED,
    add_to_results,
)
from balms_seg.evaluation.uncertainty.run_seeds import configured_training
from balms_seg.modeling.classifier_init import tau_normalise_classifiers
from balms_seg.modeling.prepare import prepare_model
from balms_seg.modeling.roi_heads import LONG_TAILED_HEADS, our_heads
from balms_seg.wording import counted

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from torch import nn

    from balms_seg.class_statistics.class_record import ClassRecord

logger = logging.getLogger(__name__)

TAU_NORMALISED = "model_tau_norm"
_NOT_NEEDED = "Predictions need none, unless scores are adjusted by counts; that is an error then."


def train(trainer: LongTailedTrainer, *, resume: bool = False) -> dict[str, Any] | None:
    """Train, evaluating as `TEST.EVAL_PERIOD` says and at the end.

    Args:
        trainer: freshly built.
        resume: continue from the last checkpoint of `OUTPUT_DIR`, if there is one.

    Returns:
        The last evaluation's results; None where there was none.
    """
    with without_failed_start(trainer.cfg.OUTPUT_DIR):
        with early_stops_told("trained"):
            trainer.resume_or_load(resume=resume)
            if trainer.start_iter >= trainer.max_iter:
                logger.info(
                    "Nothing left to train: the checkpoint has done %d of SOLVER.MAX_ITER %s.",
                    trainer.start_iter,
                    counted(trainer.max_iter, "iteration"),
                )
            if comm.is_main_process():
                logger.info(describe_start(trainer))
        trainer.train()
    return getattr(trainer, "_last_eval_results", None)


def evaluate(cfg: CfgNode, sets: DataSets | None = None, *, resume: bool = False) -> dict[str, Any]:
    """Evaluate `MODEL.WEIGHTS`, or with `resume` the last checkpoint of `OUTPUT_DIR`.

    Args:
        cfg: a checked configuration.
        sets: with what `setup` read for it.
        resume: see above.

    Returns:
        task -> metric -> percent.

    Raises:
        PreflightError: something is wrong with the data.
        RuntimeError: the checkpoint lacks some of the model's parameters.
    """
    with early_stops_told("evaluated"):
        data = RunData(cfg, training=False, sets=sets)
        model, checkpointer = _load(cfg, resume=resume)
        record = checkpointer.loaded_record
        # Of a file of one's own they may be others than those that its OUTPUT_DIR would hold.
        logger.info("Weights: %s", checkpointer.loaded_from)
        statistics, classes = data.statistics, loaded_classes(record)
        if statistics is None and classes is not None and build_job(cfg).of_images:
            statistics = classes.to_statistics()  # the training set need not be at hand
        model = prepare_model(model, statistics, training=False)
        if cfg.MODEL.INIT_CLASSIFIER == "tau_norm":  # what is measured can be loaded anywhere
            LongTailedCheckpointer(model, cfg.OUTPUT_DIR).save(TAU_NORMALISED, tag=False)
        evaluated = LongTailedTrainer.build_evaluated_sets(
            cfg, statistics=statistics, load=data.records
        )
    results = LongTailedTrainer.test(cfg, model, sets=evaluated)
    if cfg.TEST.AUG.ENABLED:
        results.update(LongTailedTrainer.test_with_augmentation(cfg, model, sets=evaluated))
    if comm.is_main_process():
        _record_training(cfg, record, resume=resume)
        verify_results(cfg, results)
    return results


def _record_training(cfg: CfgNode, record: Mapping[str, Any], *, resume: bool) -> None:
    """Add what trained the evaluated checkpoint to results.json, as far as known.

    Checkpoints of other trainers name neither seed nor batch; the config.yaml beside them does.
    """
    path = Path(cfg.OUTPUT_DIR) / "results.json"
    trained, iteration = record.get("trainer", {}), record.get("iteration")
    if iteration is None or not path.is_file():
        return
    seed, batch_size = trained.get("seed"), trained.get("data_loader", {}).get("batch_size")
    known = {"seed": seed, "iteration": iteration + 1, "batch_size": batch_size}
    if seed is None and not resume:
        configured = configured_training(Path(cfg.MODEL.WEIGHTS).parent)
        known |= {CONFIGURED_SEED: configured.seed, "batch_size": configured.batch_size}
    add_to_results(path, **{CHECKPOINT_ENTRY: known})


def load_model(cfg: CfgNode, *, resume: bool = False) -> nn.Module:
    """Build the model that `MODEL.WEIGHTS` belongs to, for inference.

    Args:
        cfg: configuration.
        resume: load the last checkpoint of `OUTPUT_DIR` instead, where there is one.

    Raises:
        RuntimeError: the checkpoint lacks some of the model's parameters.
    """
    model, _ = _load(cfg, resume=resume)
    statistics = statistics_if_available(cfg, consequence=_NOT_NEEDED)
    return prepare_model(model, statistics, training=False)


def load_model_and_classes(
    cfg: CfgNode, *, resume: bool = False
) -> tuple[nn.Module, ClassRecord | None]:
    """As `load_model`, with what is known of the classes.

    The checkpoint says it, or else the training set of the configuration; None where neither does.

    The model cuts at the thresholds in the checkpoint, unless the configuration has its own.
    (An evaluation does not: AP ranks all detections.) Where no training set is at hand, the counts
    that a calibration needs are the checkpoint's.

    Raises:
        RuntimeError: as there.
        ValueError: a registered data set of the configuration has other classes.
    """
    model, checkpointer = _load(cfg, resume=resume)
    classes = loaded_classes(checkpointer.loaded_record)
    if classes is not None and classes.thresholds and not _own_thresholds(cfg):
        heads: Any = model.roi_heads
        heads.cut_at(classes.thresholds)
    if classes is None:
        found = training_set_if_available(cfg, consequence=_NOT_NEEDED)
        classes = None if found is None else class_record(cfg, found)
        statistics = None if found is None else found.statistics
    elif not classes.image_counts:
        statistics = statistics_if_available(cfg, consequence=_NOT_NEEDED)
    else:
        statistics = statistics_if_available(cfg, consequence="Those in the checkpoint will do.")
        statistics = statistics or classes.to_statistics()
    return prepare_model(model, statistics, training=False), classes


def has_class_thresholds(cfg: CfgNode, classes: ClassRecord | None) -> bool:
    """Whether a model of `load_model_and_classes` cuts each class at a score of its own."""
    return bool(_own_thresholds(cfg) or (classes is not None and classes.thresholds))


def _own_thresholds(cfg: CfgNode) -> bool:
    return bool(cfg.MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS)


def _load(cfg: CfgNode, *, resume: bool) -> tuple[nn.Module, LongTailedCheckpointer]:
    """The model with its weights, and what loaded them."""
    model = LongTailedTrainer.build_model(cfg)
    checkpointer = LongTailedCheckpointer(model, cfg.OUTPUT_DIR)
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    check_classes(cfg, checkpointer.loaded_record)
    require_same_normalisation(cfg, checkpointer.loaded_record)
    checkpointer.require_all_parameters(_remedy(cfg))
    if cfg.MODEL.INIT_CLASSIFIER == "tau_norm":
        tau_normalise_classifiers(model, tau=cfg.MODEL.INIT_CLASSIFIER_TAU)
    return model, checkpointer


def _remedy(cfg: CfgNode) -> str:
    """What to do where a model's parameters are not those of the checkpoint."""
    heads = cfg.MODEL.ROI_HEADS.NAME
    if build_job(cfg).of_images or heads in LONG_TAILED_HEADS:
        return (
            "Check the configuration against the checkpoint's: the number of classes, and the "
            "CLASSIFIER, which is the method that it was trained with, also where it was set in "
            "code (replace_box_classifier)."
        )
    return (
        "Check the configuration (classes, heads) against the checkpoint's. Where the classifier "
        "was replaced in code (replace_box_classifier), set MODEL.ROI_HEADS.NAME "
        f"{our_heads(heads)} and MODEL.ROI_BOX_HEAD.CLASSIFIER to the method."
    )
