"""Which score to cut at, class by class, from the matches of one evaluation.

Thresholds are chosen on one half of the images and judged on the other, and the other way round, so
that precision and recall are those of images that had no say; the thresholds handed out are chosen
on all images.

Symbols: K classes, S candidate thresholds, I images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from balms_seg.evaluation.predictions.match_file import StoredMatches
from balms_seg.evaluation.uncertainty.jackknife import leave_out_weights
from balms_seg.evaluation.uncertainty.score_counts import Curves, ScoreCounts
from balms_seg.evaluation.uncertainty.threshold_choice import (
    Objective,
    choose_thresholds,
    objective_values,
)
from balms_seg.wording import counted

_NUM_RESAMPLES = 100


@dataclass(frozen=True)
class OperatingPoint:
    """Where to cut one class, and what that gives on images that had no say in it.

    Attributes:
        threshold: detections with at least this score are kept.
        threshold_interval: 95% of it over resampled images.
        precision: share of the kept detections that are right; nan where none is kept.
        precision_interval: 95%.
        recall: share of the objects that are found; nan where there are none.
        recall_interval: 95%.
        num_objects: annotations of the class.
        num_right: right detections at any score.
        num_kept: detections at or above the threshold.
        num_kept_right: those of them that are right.
        is_reached: whether the kept detections reach the precision or recall that was asked for, on
            all images; None for an F score, which is only made as large as it gets, and for a class
            without objects.
        is_reachable: whether they would at some threshold; None likewise.
    """

    threshold: float
    threshold_interval: tuple[float, float]
    precision: float
    precision_interval: tuple[float, float]
    recall: float
    recall_interval: tuple[float, float]
    num_objects: int
    num_right: int
    num_kept: int
    num_kept_right: int
    is_reached: bool | None
    is_reachable: bool | None

    @property
    def is_never_found(self) -> bool:
        """Whether the class has objects, but no right detection at any score."""
        return self.num_objects > 0 and self.num_right == 0

    @property
    def is_cut_off(self) -> bool:
        """Whether the class has right detections, all of which are below its threshold."""
        return self.num_right > 0 and self.num_kept_right == 0


def choose_operating_points(
    stored: StoredMatches, objective: Objective, *, prior_objects: float = 20.0, seed: int = 0
) -> list[OperatingPoint]:
    """The operating point of each class at IoU 0.5.

    Args:
        stored: matches of one run, best on held-out images of the training set.
        objective: what to choose for.
        prior_objects: how many objects' worth the frequency group's curve counts in a class's; 0
            leaves each class to itself.
        seed: of the halves and the resamples.

    Returns:
        K operating points.

    Raises:
        ValueError: there are no detections, or fewer than two images, or `prior_objects` is no
            number from 0 on.
    """
    if not 0 <= prior_objects < math.inf:
        raise ValueError(
            f"Expected --prior-objects from 0 (each class by itself) on, but got {prior_objects}."
        )
    if stored.num_images < 2 or not len(stored.scores):
        raise ValueError(
            "Expected detections on at least 2 images to choose thresholds from, but got "
            f"{counted(len(stored.scores), 'detection')} on {counted(stored.num_images, 'image')}."
        )
    counts = ScoreCounts(stored)

    def choose(weights: np.ndarray) -> np.ndarray:
        return choose_thresholds(
            counts.curves(weights), counts.groups, objective, prior_objects=prior_objects
        )

    ones = np.ones(stored.num_images)
    rows = np.arange(counts.num_classes)
    chosen = choose(ones)
    # (K,) of both halves: what the threshold of the other half keeps.
    kept, right, objects = np.zeros((3, counts.num_classes))
    for half in leave_out_weights(stored.num_images, max_blocks=2, seed=seed).T:
        judged = counts.curves(1.0 - half)
        at = choose(half.astype(float))
        right += judged.true[rows, at]
        kept += judged.true[rows, at] + judged.false[rows, at]
        objects += judged.objects
    rng = np.random.default_rng(seed)
    draws = np.array(
        [
            choose(np.bincount(rng.integers(len(ones), size=len(ones)), minlength=len(ones)))
            for _ in range(_NUM_RESAMPLES)
        ]
    )
    ends = counts.thresholds[np.quantile(draws, [0.025, 0.975], axis=0, method="nearest")]
    totals = counts.curves(ones)
    kept_right = totals.true[rows, chosen]
    all_kept = kept_right + totals.false[rows, chosen]
    values = objective_values(totals.true, totals.false, totals.objects[:, None], objective)
    reaches = values >= objective.value
    has_goal = (totals.objects > 0) & (objective.name != "f")
    precision_spread, recall_spread = _spreads(totals, draws)
    return [
        OperatingPoint(
            threshold=float(counts.thresholds[chosen[k]]),
            threshold_interval=(float(ends[0, k]), float(ends[1, k])),
            precision=_share(right[k], kept[k]),
            precision_interval=_widened(right[k], kept[k], precision_spread[k]),
            recall=_share(right[k], objects[k]),
            recall_interval=_widened(right[k], objects[k], recall_spread[k]),
            num_objects=int(objects[k]),
            num_right=int(totals.true[k, 0]),
            num_kept=int(all_kept[k]),
            num_kept_right=int(kept_right[k]),
            is_reached=bool(reaches[k, chosen[k]]) if has_goal[k] else None,
            is_reachable=bool(reaches[k].any()) if has_goal[k] else None,
        )
        for k in range(counts.num_classes)
    ]


def wilson_interval(hits: float, trials: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share; (0, 1) without trials.

    Source: Wilson 1927.
    """
    if trials <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    reach = z / (1 + z * z / trials)
    reach *= math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _widened(hits: float, trials: float, spread: float) -> tuple[float, float]:
    """Wilson's interval, its reach joined with that of an independent error of this deviation."""
    low, high = wilson_interval(hits, trials)
    if trials <= 0:
        return low, high
    share, further = hits / trials, NormalDist().inv_cdf(0.975) * float(spread)
    return (
        max(0.0, share - math.hypot(share - low, further)),
        min(1.0, share + math.hypot(high - share, further)),
    )


def _spreads(totals: Curves, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the choice of the threshold adds to the choice of the images.

    Args:
        totals: of all images.
        draws: (B, K) candidates that resamples choose.

    Returns:
        (K,) standard deviations of precision and recall.
    """
    true, false = (
        np.take_along_axis(curve, draws.T, axis=1) for curve in (totals.true, totals.false)
    )
    precision = true / np.maximum(true + false, 1)
    recall = true / np.maximum(totals.objects[:, None], 1)
    return precision.std(axis=1), recall.std(axis=1)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
