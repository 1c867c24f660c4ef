"""Tunes calibrations of a trained detector on registered sets."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from balms_seg.annotations import read_annotations
from balms_seg.data import (
    get_metadata,
    load_dataset_dicts,
    register_from_config,
)
from balms_seg.data.preflight.shared_image_check import shared_files
from balms_seg.data.training_set import describe_difference
from balms_seg.engine.jobs.choice import build_job
from balms_seg.engine.run import load_model
from balms_seg.engine.trainer import LongTailedTrainer
from balms_seg.engine.tuning.calibration_search import (
    HeldOut,
    Result,
    Trial,
    gains,
    is_validation_set,
    plain_trial,
    temperature_trial,
    training_fractal_dimensions,
    trials_of,
)
from balms_seg.engine.tuning.search_space import METHODS, METRICS, STRENGTHS
from balms_seg.engine.tuning.trial_detections import DetectionRule, detect_under
from balms_seg.evaluation import load_ground_truth
from balms_seg.evaluation.lvis.detection_table import DetectionTable
from balms_seg.evaluation.output.result_table import format_percent
from balms_seg.methods import find_method
from balms_seg.modeling.classifier_init import tau_normalise_classifiers
from balms_seg.modeling.roi_heads import method_name
from balms_seg.wording import counted

logger = logging.getLogger(__name__)


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
            for category_id, group in zip(
                annotations.contiguous_ids, self.statistics.group_ids, strict=True
            )
        }
        return HeldOut(
            load_ground_truth(
                annotations,
                class_frequency=letters,
                own_groups=not self.cfg.TEST.LONG_TAILED.GROUP_BOUNDS,
                trust_annotations=metadata.get("trust_annotations", False),
            ),
            self.statistics,
            self._rule,
            self._counts,
            find_method(method_name(self.cfg)).independent_scores,
        )

    def detect(
        self, held_out: HeldOut, name: str, trials: Sequence[Trial], model: Any = None
    ) -> list[DetectionTable]:
        """What a model finds on a registered set under each of several calibrations."""
        found = detect_under(
            {trial.name: trial.calibrate for trial in trials},
            self.model if model is None else model,
            LongTailedTrainer.build_test_loader(self.cfg, name),
            held_out.rule,
            held_out.ground_truth,
        )
        return [found[trial.name] for trial in trials]

    def measure(self, held_out: HeldOut, name: str, trials: Sequence[Trial]) -> Iterator[Result]:
        """What each trial gives on a registered set, as it comes; each tau takes a run over it."""
        shared = [trial for trial in trials if trial.method != "tau_norm"]
        if shared:
            tables = self.detect(held_out, name, shared)
            yield from map(held_out.measure, shared, tables)
        for trial in trials:
            if trial.method == "tau_norm":
                model = self.normalised_model(trial.strength or 0.0)
                yield held_out.measure(trial, *self.detect(held_out, name, [trial], model))

    def normalised_model(self, tau: float) -> Any:
        """A copy whose classifier is tau-normalised."""
        model = copy.deepcopy(self.model)
        tau_normalise_classifiers(model, tau=tau)
        return model


def refuse_unfit_set(name: str, cfg: CfgNode, *, allow_validation: bool) -> None:
    """Raise ValueError where constants are not to be tuned on a registered set.

    Args:
        name: of the set.
        cfg: DATASETS.TRAIN are the sets that the model was trained on, under whatever name.
        allow_validation: whether sets on which results are reported will do.
    """
    file = Path(get_metadata(name).json_file)
    if name in cfg.DATASETS.TRAIN:
        raise ValueError(
            f"The model was trained on '{name}' and is surer there than elsewhere; name a set that "
            "it has not seen, held out of the training data."
        )
    if not allow_validation and (is_validation_set(name) or is_validation_set(file.stem)):
        culprit = f"'{name}'" if is_validation_set(name) else f"{file}, the file of '{name}',"
        raise ValueError(
            f"{culprit} is named like a set that results are reported on, and "
            "constants tuned there make those too good. Hold out a part of the training data and "
            "register it, or say --allow-validation."
        )
    num_images, shared = shared_files(name, cfg.DATASETS.TRAIN, load_dataset_dicts)
    number = len(set().union(*shared.values()))
    if number:
        raise ValueError(
            f"The model was trained on {number} of {num_images} images of '{name}' "
            f"({', '.join(cfg.DATASETS.TRAIN)}) and is surer there than elsewhere; hold images out "
            "before training, with balms-seg split."
        )


def tune(
    session: Session,
    dataset: str,
    *,
    methods: Sequence[str] = METHODS,
    strengths: Sequence[float] | None = None,
) -> list[Result]:
    """Measure calibrations on a held-out set: one run over it for all that leave the weights.

    Args:
        session: of the model.
        dataset: registered name of the set.
        methods: of `METHODS`.
        strengths: constants to try; each method's own where None.

    Returns:
        What each gives, the scores as they are first.

    Raises:
        ValueError: the set has other classes.
    """
    held_out = session.held_out(dataset)
    shared, taus = [plain_trial()], []
    for method in methods:
        constants = strengths or STRENGTHS.get(method, ())
        if method == "tau_norm":
            taus = [_tau_trial(tau) for tau in constants]
        elif method != "group_temperature":
            dimensions: Any = ()
            if method == "fracal":
                dimensions = training_fractal_dimensions(
                    session.training_set.dicts, session.statistics.num_classes
                )
            shared += trials_of(held_out, method, constants, dimensions=dimensions)
    fits_temperatures = "group_temperature" in methods
    total = len(shared) + fits_temperatures + len(taus)
    logger.info(
        "%s, and the scores as they are, in %s over the %s of %s.",
        counted(total - 1, "constant"),
        counted(1 + fits_temperatures + len(taus), "run"),
        counted(held_out.ground_truth.num_images, "image"),
        dataset,
    )
    tables = session.detect(held_out, dataset, shared)
    fitted = [temperature_trial(held_out, tables[0])] * fits_temperatures
    results = []
    for result in chain(
        map(held_out.measure, shared, tables),
        session.measure(held_out, dataset, [*fitted, *taus]),
    ):
        results.append(result)
        ap = format_percent(result.metrics["AP"])
        logger.info("%d of %d: %s, box AP %s", len(results), total, result.trial.name, ap)
    return results


def _tau_trial(tau: float) -> Trial:
    return Trial(
        "tau_norm", tau, {"INIT_CLASSIFIER": "tau_norm", "INIT_CLASSIFIER_TAU": float(tau)}
    )


def format_results(results: Sequence[Result], metric: str | None = None) -> str:
    """One line a result: its metrics in percent, and its gain over the first with its interval.

    Args:
        results: plain scores first where gains are wanted.
        metric: whose gain is shown; None: of none.
    """
    width = max(len(result.trial.name) for result in results)
    lines = [" " * width + "".join(f"{column:>8}" for column in METRICS)]
    lines += [
        result.trial.name.ljust(width)
        + "".join(f"{format_percent(result.metrics[column]):>8}" for column in METRICS)
        for result in results
    ]
    if metric is not None:
        lines[0] += f"  gain in {metric} (interval)"
        for number, gain in enumerate(gains(results, metric), start=2):
            ends = "n/a" if math.isnan(gain.low) else f"{gain.low:+.1f} to {gain.high:+.1f}"
            lines[number] += f"  {gain.value:+.1f} ({ends})"
    return "\n".join(lines)
