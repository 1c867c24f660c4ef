"""Whether the probabilities of one classifier mean more than another's, on the same images.

n: images, B: resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from balms_seg.evaluation.images.classifier_predictions import (
    ClassifierPredictions,
    StoredPredictions,
)
from balms_seg.evaluation.images.paired_accuracy import NUM_RESAMPLES, require_same_images
from balms_seg.evaluation.uncertainty.reliability import reliability

# Of single precision, in which models say what they say: a label that they exclude costs 87 nats.
_SMALLEST = float(np.finfo(np.float32).tiny)

Measure = Callable[[np.ndarray], float]  # (n,) how often each image counts


@dataclass(frozen=True)
class CalibrationChange:
    """How a second run's error differs from a first one's.

    Attributes:
        first: error of the first run.
        second: of the second.
        low: end of the interval of second - first.
        high: the other end.
    """

    first: float
    second: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """Second minus first."""
        return self.second - self.first

    @property
    def is_larger_than_chance(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def compare_calibration(
    first: StoredPredictions,
    second: StoredPredictions,
    *,
    weights: np.ndarray | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, CalibrationChange]:
    """Compare the expected calibration error and the negative log-likelihood of the labels.

    The interval is the percentile interval of a paired bootstrap over images. On few images an
    expected calibration error is too large, of the better calibrated run most, so that a difference
    is rather under- than overstated; the likelihood has no such bias.

    Args:
        first: a run.
        second: another on the same images, in any order.
        weights: (n,) how much each of the first run's images counts; None: 1.
        num_resamples: B.
        seed: of the resamples.
        level: of the interval.

    Returns:
        Per "ece", a fraction, and "nll", in nats.

    Raises:
        ValueError: the runs saw other images or labels.
    """
    order = require_same_images(first, second)
    number = len(order)
    own = np.ones(number) if weights is None else weights
    everywhere = np.arange(number)
    pairs = {
        name: (measure(first.predictions, everywhere), measure(second.predictions, order))
        for name, measure in (("ece", _ece_of), ("nll", _nll_of))
    }
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in pairs}
    for _ in range(num_resamples):
        counted = own * np.bincount(rng.integers(number, size=number), minlength=number)
        for name, (one, other) in pairs.items():
            drawn[name].append(other(counted) - one(counted))
    changes = {}
    for name, (one, other) in pairs.items():
        before, after = one(own), other(own)
        low, high = np.quantile(drawn[name], [(1 - level) / 2, (1 + level) / 2])
        changes[name] = CalibrationChange(before, after, float(low), float(high))
    return changes


def label_losses(label_scores: np.ndarray) -> np.ndarray:
    """(n,) -log of the probabilities that labels got, in nats."""
    return -np.log(np.maximum(label_scores, _SMALLEST))


def _nll_of(predictions: ClassifierPredictions, order: np.ndarray) -> Measure:
    losses = label_losses(predictions.label_scores[order])
    return lambda counted: float(np.average(losses, weights=counted))


def _ece_of(predictions: ClassifierPredictions, order: np.ndarray) -> Measure:
    scores, is_right = predictions.confidences[order], predictions.is_right[order]

    def measure(counted: np.ndarray) -> float:
        return reliability(scores, is_right, weights=counted).expected_calibration_error

    return measure
