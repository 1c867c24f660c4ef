"""Whether the probabilities of one classifier mean more than another's, on the same images.

n: images, B: resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from balms_seg.evaluation.images.classifier_predictions import StoredPredictions
from balms_seg.evaluation.images.paired_accuracy import NUM_RESAMPLES, require_same_images
from balms_seg.evaluation.uncertainty.difference import Difference
from balms_seg.evaluation.uncertainty.reliability import reliability

# Of single precision, in which models say what they say: a label that they exclude costs 87 nats.
_SMALLEST = float(np.finfo(np.float32).tiny)
_DRAWS_AT_ONCE = 1 << 20


def compare_calibration(
    first: StoredPredictions,
    second: StoredPredictions,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Difference]:
    """Compare the expected calibration error and the negative log-likelihood of the labels.

    The interval is the percentile interval of a paired bootstrap over images. On few images an
    expected calibration error is too large, of the better calibrated run most, so that a difference
    is rather under- than overstated; the likelihood has no such bias.

    Args:
        first: a run.
        second: another on the same images, in any order.
        num_resamples: B.
        seed: of the resamples.
        level: of the interval.

    Returns:
        Per "ece", a fraction, and "nll", in nats.

    Raises:
        ValueError: the runs saw other images or labels.
    """
    order = require_same_images(first, second)
    one, other = first.predictions, second.predictions
    losses = label_losses(one.label_scores), label_losses(other.label_scores[order])
    nll = compare_losses(*losses, num_resamples=num_resamples, seed=seed, level=level)
    whole = np.arange(len(order))
    first_ece = _ece_of(one.confidences, one.is_right)
    second_ece = _ece_of(other.confidences[order], other.is_right[order])
    rng = np.random.default_rng(seed)
    changes = []
    for _ in range(num_resamples):
        drawn = rng.integers(len(order), size=len(order))
        changes.append(second_ece(drawn) - first_ece(drawn))
    ends = _ends(changes, level)
    return {"ece": Difference(first_ece(whole), second_ece(whole), *ends), "nll": nll}


def compare_losses(
    first: np.ndarray,
    second: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """Compare mean losses of the same images; the interval as in `compare_calibration`.

    Args:
        first: (n,) of a run.
        second: (n,) of another, in the same order.
        weights: (n,) how much each image counts; None: 1.
        num_resamples: B.
        seed: of the resamples.
        level: of the interval.
    """
    own = np.ones(len(first)) if weights is None else weights
    changed = own * (second - first)
    rng = np.random.default_rng(seed)
    changes: list[float] = []
    at_once = max(1, _DRAWS_AT_ONCE // len(first))
    for start in range(0, num_resamples, at_once):
        size = min(at_once, num_resamples - start)
        drawn = rng.integers(len(first), size=(size, len(first)))
        changes += (changed[drawn].sum(axis=1) / own[drawn].sum(axis=1)).tolist()
    before, after = (float(np.average(losses, weights=own)) for losses in (first, second))
    return Difference(before, after, *_ends(changes, level))


def label_losses(label_scores: np.ndarray) -> np.ndarray:
    """(n,) -log of the probabilities that labels got, in nats."""
    return -np.log(np.maximum(label_scores, _SMALLEST))


def _ends(changes: Sequence[float], level: float) -> tuple[float, float]:
    low, high = np.quantile(changes, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ece_of(scores: np.ndarray, is_right: np.ndarray) -> Callable[[np.ndarray], float]:
    """The error on images at these places, which may come again."""
    return lambda drawn: reliability(scores[drawn], is_right[drawn]).expected_calibration_error
