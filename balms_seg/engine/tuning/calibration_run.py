"""Tunes calibrations of a trained detector on registered sets."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from balms_seg.annotations import read_annotations
from balms_seg.data import (
    get_metadata,
    load_dataset_dicts,
    register_from_config,
)
from balms_seg.data.training_set import describe_difference
from balms_seg.engine.jobs.choice import build_job
from balms_seg.engine.run import load_model
from balms_seg.engine.trainer import LongTailedTrainer
from balms_seg.engine.tuning.box_outputs import (
    BoxOutputs,
    DetectionRule,
    load_box_outputs,
    record_box_outputs,
    save_box_outputs,
)
from balms_seg.engine.tuning.calibration_search import (
    HeldOut,
    Trial,
    best_trial,
    is_validation_set,
    training_fractal_dimensions,
    try_strengths,
)
from balms_seg.engine.tuning.search_space import METHODS, METRICS, STRENGTHS
from balms_seg.evaluation import load_ground_truth
from balms_seg.evaluation.output.result_table import format_percent
from balms_seg.methods import find_method
from balms_seg.modeling.classifier_init import tau_normalise_classifiers
from balms_seg.modeling.roi_heads import method_name


class Session:
    """A configuration, its model where one is needed, and the sets it is measured on.

    Attributes:
        cfg: without a calibration.
        training_set: of the configuration.
        statistics: of the training set.
    """

    def __init__(self, cfg: CfgNode, *, counts: str = "image") -> None:
        """Take a checked configuration, which is copied.

        Args:
            cfg: of the run; MODEL.WEIGHTS is read when the model is first asked for.
            counts: kind of training counts that calibrations use, "image" or "instance".
        """
        self.cfg = cfg.clone()
        self.cfg.defrost()
        self.cfg.MODEL.ROI_BOX_HEAD.CALIBRATION.METHOD = "none"
        self.cfg.MODEL.INIT_CLASSIFIER = "keep"
        register_from_config(self.cfg)
        self.training_set = build_job(self.cfg).load_training_set()
        self.statistics = self.training_set.statistics
        self._counts = counts
        self._rule = DetectionRule(
            self.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
            self.cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
            self.cfg.TEST.DETECTIONS_PER_IMAGE,
        )
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The detector with its weights."""
        if self._model is None:
            if not self.cfg.MODEL.WEIGHTS:
                raise ValueError("Expected MODEL.WEIGHTS PATH after the flags, but got none.")
            self._model = load_model(self.cfg)
        return self._model

    def held_out(self, name: str) -> HeldOut:
        """A registered set to measure on; ValueError where it has other classes."""
        load_dataset_dicts(name)  # fills in the metadata
        metadata = get_metadata(name)
        annotations = read_annotations(metadata.json_file)
        ids = list(annotations.contiguous_ids)
        # Those of the training set are checked against the checkpoint's when that is loaded.
        trained = list(self.statistics.class_names)
        difference = describe_difference(trained, metadata.thing_classes)
        if difference:
            raise ValueError(
                f"Expected the classes of training in '{name}', but they differ: {difference} Hold "
                "out a part of the same annotations."
            )
        letters = {
            category_id: self.statistics.group_names[group][0]
            for category_id, group in zip(ids, self.statistics.group_ids, strict=True)
        }
        return HeldOut(
            load_ground_truth(
                annotations,
                class_frequency=letters,
                trust_annotations=metadata.get("trust_annotations", False),
            ),
            ids,
            self.statistics,
            self._rule,
            self._counts,
            find_method(method_name(self.cfg)).independent_scores,
        )

    def record(self, name: str, model: Any = None) -> list[BoxOutputs]:
        """What a model says of a set's images."""
        loader = LongTailedTrainer.build_test_loader(self.cfg, name)
        return record_box_outputs(self.model if model is None else model, loader)

    def normalised_model(self, tau: float) -> Any:
        """A copy whose classifier is tau-normalised."""
        model = copy.deepcopy(self.model)
        tau_normalise_classifiers(model, tau=tau)
        return model


def refuse_unfit_set(name: str, cfg: CfgNode, *, allow_validation: bool) -> None:
    """Raise ValueError where constants are not to be tuned on a registered set.

    Args:
        name: of the set.
        cfg: DATASETS.TRAIN are the sets that the model was trained on.
        allow_validation: whether sets on which results are reported will do.
    """
    file = Path(get_metadata(name).json_file).stem
    if name in cfg.DATASETS.TRAIN:
        raise ValueError(
            f"The model was trained on '{name}' and is surer there than elsewhere; name a set that "
            "it has not seen, held out of the training data."
        )
    if not allow_validation and (is_validation_set(name) or is_validation_set(file)):
        raise ValueError(
            f"'{name}' looks like a validation set, on which results are reported: constants tuned "
            "there make them too good. Hold out a part of the training data and register it, or "
            "say --allow-validation."
        )


def tune(
    session: Session,
    dataset: str,
    *,
    methods: Sequence[str] = METHODS,
    strengths: Sequence[float] | None = None,
    metric: str = "AP",
    outputs_file: Path | None = None,
    save_outputs: Path | None = None,
) -> tuple[list[Trial], dict[str, Trial]]:
    """Measure calibrations on a held-out set.

    Args:
        session: of the model.
        dataset: registered name of the set.
        methods: of `METHODS`.
        strengths: constants to try; each method's own where None.
        metric: what decides.
        outputs_file: kept outputs of the model on the set; None runs the model.
        save_outputs: file to keep the outputs in.

    Returns:
        All trials, and the best one of "none" and of each method.

    Raises:
        ValueError: the kept outputs are of another set, or the set has other classes.
    """
    held_out = session.held_out(dataset)
    outputs = _outputs(session, dataset, outputs_file)
    if save_outputs:
        about = {
            "dataset": dataset,
            "weights": str(session.cfg.MODEL.WEIGHTS),
            "classes": list(session.statistics.class_names),
        }
        save_box_outputs(save_outputs, outputs, about=about)
    base = {"ROI_BOX_HEAD": {"CALIBRATION": {"METHOD": "none"}}}
    trials = [Trial("none", None, held_out.measure(outputs, None), base)]
    for method in methods:
        constants = strengths or STRENGTHS.get(method, ())
        if method == "tau_norm":
            trials += [_try_tau(session, held_out, dataset, tau) for tau in constants]
            continue
        dimensions: Any = ()
        if method == "fracal":
            dimensions = training_fractal_dimensions(
                session.training_set.dicts, session.statistics.num_classes
            )
        trials += try_strengths(held_out, outputs, method, constants, dimensions=dimensions)
    best = {
        method: best_trial([trial for trial in trials if trial.method == method], metric)
        for method in ("none", *methods)
    }
    return trials, best


def _outputs(session: Session, dataset: str, file: Path | None) -> list[BoxOutputs]:
    if file is None:
        return session.record(dataset)
    outputs, found = load_box_outputs(file)
    if found["dataset"] != dataset:
        raise ValueError(
            f"Expected outputs on '{dataset}', but {file} is of '{found['dataset']}'; record them "
            "again."
        )
    difference = describe_difference(found["classes"], list(session.statistics.class_names))
    if difference:
        raise ValueError(
            f"The classes of the model whose outputs are in {file} and those of this training set "
            f"differ: {difference} Use the annotations that it was trained on."
        )
    return outputs


def _try_tau(session: Session, held_out: HeldOut, dataset: str, tau: float) -> Trial:
    outputs = session.record(dataset, session.normalised_model(tau))
    keys = {"INIT_CLASSIFIER": "tau_norm", "INIT_CLASSIFIER_TAU": float(tau)}
    return Trial("tau_norm", tau, held_out.measure(outputs, None), keys)


def measure_on(
    session: Session, name: str, best: Mapping[str, Trial]
) -> dict[str, dict[str, float]]:
    """What the best trial of each method gives on another registered set."""
    held_out = session.held_out(name)
    outputs = session.record(name)
    found = {}
    for method, trial in best.items():
        if method == "none":
            found[method] = held_out.measure(outputs, None)
        elif method == "tau_norm":
            model = session.normalised_model(trial.strength or 0.0)
            found[method] = held_out.measure(session.record(name, model), None)
        else:
            keys = trial.keys["ROI_BOX_HEAD"]["CALIBRATION"]
            constants = {"strength": "STRENGTH", "temperatures": "TEMPERATURES"}
            given = {name: keys[key] for name, key in constants.items() if key in keys}
            if "DIMENSIONS" in keys:
                given["dimensions"] = torch.tensor(keys["DIMENSIONS"])
            found[method] = held_out.measure(outputs, held_out.calibration(method, **given))
    return found


def format_trials(rows: Sequence[tuple[str, dict[str, float]]]) -> str:
    """One line a row of metrics."""
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{column:>8}" for column in METRICS)]
    lines += [
        name.ljust(width) + "".join(f"{format_percent(metrics[column]):>8}" for column in METRICS)
        for name, metrics in rows
    ]
    return "\n".join(lines)
