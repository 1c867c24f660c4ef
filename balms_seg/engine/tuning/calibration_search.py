"""Chooses the constant of a post-hoc calibration on a held-out part of the training data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from balms_seg.class_statistics import ClassStatistics
from balms_seg.class_statistics.fractal_dimension import fractal_dimensions
from balms_seg.engine.tuning.search_space import METRICS
from balms_seg.engine.tuning.trial_detections import Calibrate, DetectionRule
from balms_seg.evaluation.lvis.detection_table import DetectionTable
from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS, GroundTruth
from balms_seg.evaluation.lvis.lvis_ap import find_matches
from balms_seg.evaluation.predictions.match_file import reduce_matches
from balms_seg.evaluation.uncertainty.difference import Difference
from balms_seg.evaluation.uncertainty.jackknife import leave_out_weights, student_reach
from balms_seg.evaluation.uncertainty.reliability import (
    calibration_error_without_blocks,
    judge_detections,
)
from balms_seg.evaluation.uncertainty.resampled_ap import group_means, resampled_class_ap
from balms_seg.methods.calibration import ScoreCalibration

_TEMPERATURES = np.geomspace(0.25, 4, 33)
_VALIDATION_NAME = re.compile(r"(^|[^a-z])(mini)?(val|validation|test)(?![a-z])")
UNCHANGED = "none"


@dataclass(frozen=True, eq=False)
class Trial:
    """A calibration with its constant.

    Attributes:
        method: name of the calibration; "none" for the scores as they are.
        strength: its constant, None where it has none.
        keys: configuration keys below MODEL that choose it.
        calibrate: what it does with the scores; None: nothing.
    """

    method: str
    strength: float | None
    keys: dict[str, Any]
    calibrate: Calibrate = None

    @property
    def name(self) -> str:
        """The method with its constant."""
        return self.method if self.strength is None else f"{self.method} {self.strength:g}"


@dataclass(frozen=True, eq=False)
class Result:
    """What a trial gives.

    Attributes:
        trial: the calibration.
        values: (1 + G,) percent of each of `METRICS`: on all images, and without each block.
    """

    trial: Trial
    values: dict[str, np.ndarray]

    @property
    def metrics(self) -> dict[str, float]:
        """Percent per metric, on all images."""
        return {name: float(values[0]) for name, values in self.values.items()}

    def gain_over(self, plain: Result, metric: str, level: float) -> Difference:
        """How much better a metric is than with plain scores; in percent, more is better.

        The interval is Student's of a jackknife over images; nan where too few objects count.

        Args:
            plain: what the scores give as they are.
            metric: of `METRICS`; of the calibration errors, lower ones are better.
            level: of the interval.
        """
        sign = -1 if metric.startswith("ECE") else 1
        before, after = (sign * result.values[metric] for result in (plain, self))
        gains = after - before
        reach = student_reach(gains[0], gains[1:], level)
        return Difference(
            float(before[0]), float(after[0]), float(gains[0] - reach), float(gains[0] + reach)
        )


def is_validation_set(name: str) -> bool:
    """Whether a data set's name says that results are reported on it."""
    return _VALIDATION_NAME.search(name.lower()) is not None


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Data to choose a constant on.

    Attributes:
        ground_truth: of the held-out images.
        statistics: of the training set.
        rule: how boxes become detections.
        counts: kind of training counts, "image" or "instance".
        independent: whether the classifier is made of sigmoids.
    """

    ground_truth: GroundTruth
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

    def measure(self, trial: Trial, detections: DetectionTable) -> Result:
        """AP of boxes and the expected calibration error, overall and by group."""
        truth = self.ground_truth.for_task("bbox")
        matches = find_matches(truth, detections, "bbox")
        left_out = leave_out_weights(truth.num_images)
        weights = np.concatenate([np.ones_like(left_out[:, :1]), left_out], axis=1)
        stored = reduce_matches(truth, matches, "bbox")
        values = group_means(resampled_class_ap(stored, weights), truth.frequency)

        blocks = left_out.argmin(axis=1)[matches.detections.images]
        counts, is_right = judge_detections(matches)
        letters = np.array(truth.frequency)[matches.detections.classes]
        for letter in ("", *FREQUENCY_GROUPS):
            own = counts & (letters == letter) if letter else counts
            values[f"ECE{letter}"] = calibration_error_without_blocks(
                matches.detections.scores[own], is_right[own], blocks[own], left_out.shape[1]
            )
        return Result(trial, {name: 100 * values[name] for name in METRICS})

    def fit_temperatures(self, detections: DetectionTable) -> tuple[float, ...]:
        """Temperature of each group that makes its detections' scores most likely.

        Right is a detection that matches an annotation (IoU from 0.5). A group without detections
        keeps 1.

        Args:
            detections: with the scores as they are.
        """
        matches = find_matches(self.ground_truth.for_task("bbox"), detections, "bbox")
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


def plain_trial() -> Trial:
    """The scores as they are."""
    return Trial(UNCHANGED, None, {"ROI_BOX_HEAD": {"CALIBRATION": {"METHOD": "none"}}})


def trials_of(
    held_out: HeldOut,
    method: str,
    strengths: Sequence[float],
    *,
    dimensions: Sequence[float] = (),
) -> list[Trial]:
    """A calibration with several constants.

    Args:
        held_out: whose counts it uses.
        method: norcal, logit_adjustment or fracal.
        strengths: constants to try.
        dimensions: fractal dimension per class, for fracal.
    """
    more = {"dimensions": torch.as_tensor(list(dimensions))} if method == "fracal" else {}
    written = {"DIMENSIONS": [round(float(d), 4) for d in dimensions]} if method == "fracal" else {}
    return [
        Trial(
            method,
            strength,
            _keys(held_out, method, STRENGTH=float(strength), **written),
            held_out.calibration(method, strength=strength, **more),
        )
        for strength in strengths
    ]


def temperature_trial(held_out: HeldOut, plain: DetectionTable) -> Trial:
    """The temperatures of groups that fit detections with the scores as they are."""
    temperatures = held_out.fit_temperatures(plain)
    return Trial(
        "group_temperature",
        None,
        _keys(held_out, "group_temperature", TEMPERATURES=list(temperatures)),
        held_out.calibration("group_temperature", temperatures=temperatures),
    )


def _keys(held_out: HeldOut, method: str, **entries: Any) -> dict[str, Any]:
    calibration = {"METHOD": method, "COUNTS": held_out.counts, **entries}
    return {"ROI_BOX_HEAD": {"CALIBRATION": calibration}}


def best_result(results: Sequence[Result], metric: str) -> Result:
    """The one of highest AP (lowest ECE); of equal ones the first."""

    def merit(result: Result) -> float:
        value = result.metrics[metric]
        if np.isnan(value):
            return -np.inf
        return -value if metric.startswith("ECE") else value

    return max(results, key=merit)


def gains(results: Sequence[Result], metric: str, level: float = 0.95) -> list[Difference]:
    """Gain of each result over the first, with intervals that hold together at a level.

    Bonferroni's correction: of m others, each gets an interval of 1 - (1 - level) / m.

    Args:
        results: plain scores first.
        metric: of `METRICS`.
        level: at which all of the intervals hold their values.
    """
    plain, *others = results
    each = 1 - (1 - level) / max(len(others), 1)
    return [result.gain_over(plain, metric, each) for result in others]


def choose(results: Sequence[Result], metric: str) -> Result:
    """The best of those whose gain is larger than chance, or the scores as they are.

    Args:
        results: plain scores first.
        metric: of `METRICS`, which decides.
    """
    found = zip(results[1:], gains(results, metric), strict=True)
    proven = [result for result, gain in found if gain.low > 0]
    return best_result(proven, metric) if proven else results[0]


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
