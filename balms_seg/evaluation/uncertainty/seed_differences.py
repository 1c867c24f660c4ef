"""What differences of paired trainings come to over their seeds: mean, and Student's interval."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from balms_seg.evaluation.uncertainty.jackknife import t_quantile


@dataclass(frozen=True)
class MeanDifference:
    """Mean of one difference a seed, in the unit of the differences.

    Attributes:
        mean: over the seeds.
        standard_error: of the mean.
        low: lower end of the interval.
        high: upper end.
    """

    mean: float
    standard_error: float
    low: float
    high: float


def mean_difference(differences: Sequence[float], *, level: float = 0.95) -> MeanDifference:
    """Mean and Student's interval of differences between two rows of trainings, paired by seed.

    The interval is of what further seeds would give, on the same evaluation images.

    Args:
        differences: one a seed, two or more.
        level: of the interval.

    Raises:
        ValueError: there are fewer differences, or the level is not between 0 and 1.
    """
    if len(differences) < 2 or not 0 < level < 1:
        raise ValueError(
            f"Expected at least 2 differences and a level between 0 and 1, but got "
            f"{len(differences)} and {level}."
        )
    number = len(differences)
    mean, error = statistics.fmean(differences), statistics.stdev(differences) / number**0.5
    half = error * t_quantile((1 + level) / 2, number - 1)
    return MeanDifference(mean, error, mean - half, mean + half)
