"""How far AP could be off by the choice of evaluation images: a jackknife over blocks of images.

The images are dealt into blocks, and AP is computed without each block in turn. Matching within an
image does not change by it, so the matches stay and only weights of 0 and 1 are given.

Symbols: I images, G blocks.

Source: Tukey's jackknife with groups; Efron and Tibshirani 1993, An Introduction to the Bootstrap,
chapter 11. What its intervals cover is simulated in the tests of this module.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from balms_seg.evaluation.predictions.match_file import StoredMatches
from balms_seg.evaluation.uncertainty.difference import MIN_CLASSES, too_few_classes
from balms_seg.evaluation.uncertainty.resampled_ap import (
    classes_with_objects,
    group_means,
    resampled_class_ap,
)

MAX_BLOCKS = 60
_ROUNDING = 1e-12

#: What an interval of this module means, for tables and pages.
MEANING = (
    "Intervals hold, 95 times of 100, what other image sets of this size give on average. "
    "AP on few images is optimistic: more images would give less. No interval: "
    f"{too_few_classes()}, or leaving images out changes nothing."
)


def leave_out_weights(
    num_images: int, *, max_blocks: int = MAX_BLOCKS, seed: int = 0
) -> np.ndarray:
    """Weight of each image where each block is left out, (I, G) int32 of 0 and 1.

    G is the number of images where there are fewer than `max_blocks`; images are dealt at random,
    the same for the same arguments.
    """
    num_blocks = min(num_images, max_blocks)
    dealt = np.random.default_rng(seed).permutation(num_images) % max(num_blocks, 1)
    return (dealt[:, None] != np.arange(num_blocks)).astype(np.int32)


def jackknife_error(values: np.ndarray) -> float:
    """Standard error of a metric from its (G,) values without each block.

    A block without which the metric has no value, as it holds all objects, leaves the mean; nan
    where fewer than two values are left.
    """
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return math.nan
    return math.sqrt((len(values) - 1) * float(values.var()))


def student_reach(value: float, without_block: np.ndarray, level: float) -> float:
    """Half of Student's interval around a value; nan where it cannot be computed.

    Blocks without which nothing changes hold no object that matters, and give no degree of freedom;
    two others are needed.

    Args:
        value: on all images.
        without_block: (G,) values without each block.
        level: of the interval.
    """
    error = jackknife_error(without_block)
    num_changing = int((np.abs(without_block - value) > _ROUNDING).sum())
    if math.isnan(error) or num_changing < 2:
        return math.nan
    return t_quantile((1 + level) / 2, num_changing - 1) * error


def ap_intervals(stored: StoredMatches, *, level: float = 0.95) -> dict[str, tuple[float, float]]:
    """Interval of AP, APr, APc and APf for the choice of images, as fractions; see `MEANING`.

    The estimate with normal quantiles of the jackknife's standard error on both sides, within
    [0, 1]; nan, nan where fewer than `MIN_CLASSES` classes have objects, or only one block has
    any, or it has no width.

    Args:
        stored: matches of one run.
        level: share of sets of images that the interval is to hold for.
    """
    quantile = NormalDist().inv_cdf((1 + level) / 2)
    as_is = np.ones((stored.num_images, 1), dtype=np.int32)
    weights = np.concatenate([as_is, leave_out_weights(stored.num_images)], axis=1)
    num_classes = classes_with_objects(stored)
    intervals = {}
    for name, values in group_means(resampled_class_ap(stored, weights), stored.frequency).items():
        reach = quantile * jackknife_error(values[1:])
        if num_classes[name] < MIN_CLASSES or reach < _ROUNDING:
            reach = math.nan
        low, high = np.clip([values[0] - reach, values[0] + reach], 0, 1)
        intervals[name] = float(low), float(high)
    return intervals


def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t, to three digits from 3 degrees of freedom on.

    Args:
        probability: in (0, 1).
        degrees: of freedom, at least 1.

    Source: Abramowitz and Stegun 1964, 26.7.5; 1 and 2 degrees have closed forms.
    """
    if degrees == 1:
        return math.tan(math.pi * (probability - 0.5))
    if degrees == 2:
        x = 2 * probability - 1
        return x * math.sqrt(2 / (1 - x * x))
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))
