"""Chooses the constant of a post-hoc calibration on a held-out part of the training data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.class_statistics import ClassStatistics
from balms_seg.class_statistics.fractal_dimension import fractal_dimensions
from balms_seg.engine.tuning.box_outputs import BoxOutputs, DetectionRule, detect
from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS, GroundTruth
from balms_seg.evaluation.lvis.lvis_ap import evaluate_lvis, find_matches
from balms_seg.evaluation.uncertainty.reliability import calibration_by_group, judge_detections
from balms_seg.methods.calibration import ScoreCalibration
from balms_seg.progress import with_progress

_TEMPERATURES = np.geomspace(0.25, 4, 33)
_VALIDATION_NAME = re.compile(r"(^|[^a-z])(mini)?(val|validation|test)(?![a-z])")

Calibrate = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Trial:
    """A constant and what it gave.

    Attributes:
        method: name of the calibration; "none" for the scores as they are.
        strength: its constant, None where it has none.
        metrics: percent per metric: AP, APr, APc, APf, and the expected calibration error, ECE.
        keys: configuration keys below MODEL that choose it.
    """

    method: str
    strength: float | None
    metrics: dict[str, float]
    keys: dict[str, Any]


def is_validation_set(name: str) -> bool:
    """Whether a data set's name says that results are reported on it."""
    return _VALIDATION_NAME.search(name.lower()) is not None


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Data to choose a constant on.

    Attributes:
        ground_truth: of the held-out images.
        category_ids: of the json by contiguous class id.
        statistics: of the training set.
        rule: how boxes become detections.
        counts: kind of training counts, "image" or "instance".
        independent: whether the classifier is made of sigmoids.
    """

    ground_truth: GroundTruth
    category_ids: Sequence[int | str]
    statistics: ClassStatistics
    rule: DetectionRule
    counts: str = "image"
    independent: bool = False

    def calibration(self, name: str, **constants: Any) -> ScoreCalibration:
        """A calibration with the training set's counts."""
        return ScoreCalibration.of_training_set(
            name,
            self.statistics,
            counts=self.counts,
            independent=self.independent,
            **constants,
        )

    def measure(
        self, outputs: Iterable[BoxOutputs], calibrate: Calibrate | None
    ) -> dict[str, float]:
        """Box AP in percent, overall and by group, and the expected calibration error."""
        detections = self._detections(outputs, calibrate)
        result = evaluate_lvis(self.ground_truth, detections, "bbox")
        metrics = {name: 100 * result.metrics[name] for name in ("AP", "APr", "APc", "APf")}
        matches = find_matches(self.ground_truth, detections, "bbox")
        reliability = calibration_by_group(self.ground_truth, matches)
        for name, group in {
            "ECE": "all",
            **{f"ECE{k}": v for k, v in FREQUENCY_GROUPS.items()},
        }.items():
            metrics[name] = 100 * reliability[group].expected_calibration_error
        return metrics

    def _detections(
        self, outputs: Iterable[BoxOutputs], calibrate: Calibrate | None
    ) -> list[dict[str, Any]]:
        found = detect(outputs, calibrate, self.rule)
        return [{**one, "category_id": self.category_ids[one["category_id"]]} for one in found]

    def fit_temperatures(self, outputs: Iterable[BoxOutputs]) -> tuple[float, ...]:
        """Temperature of each group that makes its detections' scores most likely.

        Right is a detection that matches an annotation (IoU from 0.5). A group without detections
        keeps 1.
        """
        matches = find_matches(self.ground_truth, self._detections(outputs, None), "bbox")
        counts, is_right = judge_detections(matches)
        letters = np.array(self.ground_truth.frequency)[matches.detections.classes]
        fitted = []
        for letter in FREQUENCY_GROUPS:
            own = counts & (letters == letter)
            fitted.append(best_temperature(matches.detections.scores[own], is_right[own]))
        return tuple(fitted)


def best_temperature(scores: np.ndarray, is_right: np.ndarray) -> float:
    """What the log-odds are best divided by, to four digits; 1 where there are none.

    Args:
        scores: (N,) in [0, 1].
        is_right: (N,) bool.
    """
    if not len(scores):
        return 1.0
    odds = torch.logit(torch.as_tensor(scores), eps=1e-6)
    right = torch.as_tensor(is_right, dtype=odds.dtype)
    losses = [float(F.binary_cross_entropy_with_logits(odds / t, right)) for t in _TEMPERATURES]
    return round(float(_TEMPERATURES[int(np.argmin(losses))]), 4)


def try_strengths(
    held_out: HeldOut,
    outputs: Sequence[BoxOutputs],
    method: str,
    strengths: Sequence[float],
    *,
    dimensions: Sequence[float] = (),
) -> list[Trial]:
    """Measure a calibration of stored outputs at several constants.

    Args:
        held_out: what to measure on.
        outputs: of the held-out images, from a model without calibration.
        method: norcal, logit_adjustment, fracal or group_temperature (which fits its own).
        strengths: constants to try.
        dimensions: fractal dimension per class, for fracal.
    """
    if method == "group_temperature":
        temperatures = held_out.fit_temperatures(outputs)
        calibrate = held_out.calibration(method, temperatures=temperatures)
        keys = _keys(held_out, method, TEMPERATURES=list(temperatures))
        return [Trial(method, None, held_out.measure(outputs, calibrate), keys)]
    more = {"dimensions": torch.as_tensor(list(dimensions))} if method == "fracal" else {}
    written = {"DIMENSIONS": [round(float(d), 4) for d in dimensions]} if method == "fracal" else {}
    trials = []
    for strength in with_progress(strengths, label=method, unit="constant"):
        calibrate = held_out.calibration(method, strength=strength, **more)
        keys = _keys(held_out, method, STRENGTH=float(strength), **written)
        trials.append(Trial(method, strength, held_out.measure(outputs, calibrate), keys))
    return trials


def _keys(held_out: HeldOut, method: str, **entries: Any) -> dict[str, Any]:
    calibration = {"METHOD": method, "COUNTS": held_out.counts, **entries}
    return {"ROI_BOX_HEAD": {"CALIBRATION": calibration}}


def best_trial(trials: Sequence[Trial], metric: str) -> Trial:
    """The one of highest AP (lowest ECE); of equal ones the first."""

    def merit(trial: Trial) -> float:
        value = trial.metrics[metric]
        if np.isnan(value):
            return -np.inf
        return -value if metric.startswith("ECE") else value

    return max(trials, key=merit)


def training_fractal_dimensions(
    dataset_dicts: Sequence[dict[str, Any]], num_classes: int
) -> np.ndarray:
    """Fractal dimension of each class from detectron2's dataset dicts, (K,)."""
    from detectron2.structures import BoxMode

    centers, classes = [], []
    for record in dataset_dicts:
        size = np.array([record["width"], record["height"]], dtype=float)
        for annotation in record["annotations"]:
            box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
            center = (np.array(box[:2]) + np.array(box[2:])) / 2 / size
            centers.append(np.clip(center, 0, np.nextafter(1, 0)))
            classes.append(annotation["category_id"])
    shaped = np.array(centers, dtype=float).reshape(-1, 2)
    return fractal_dimensions(shaped, np.array(classes, dtype=np.int64), num_classes)
