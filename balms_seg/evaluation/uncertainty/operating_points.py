"""Which score to cut at, class by class, from the matches of one evaluation.

A class with few objects cannot tell its own best threshold. So its counts are joined by those of
the other classes of its frequency group, scaled to `prior_objects` objects: a class without objects
gets its group's threshold, one with thousands its own.

Thresholds are chosen on one half of the images and judged on the other, and the other way round, so
that precision and recall are those of images that had no say; the thresholds handed out are chosen
on all images.

Symbols: K classes, S candidate thresholds, I images, n detections, m annotations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from balms_seg.evaluation.predictions.match_file import StoredMatches
from balms_seg.evaluation.uncertainty.jackknife import leave_out_weights
from balms_seg.evaluation.uncertainty.score_counts import Curves, ScoreCounts

_NUM_RESAMPLES = 100


@dataclass(frozen=True)
class Objective:
    """What a threshold is chosen for.

    Attributes:
        name: "f" (largest F score), "precision" (the lowest threshold that reaches it) or "recall"
            (the highest threshold that reaches it).
        value: beta of the F score, or the share to reach.
    """

    name: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read "f1", "f0.5", "f2", "precision=0.9" or "recall=0.8".

        Raises:
            ValueError: it is none of these, or the number is out of range.
        """
        name, _, number = text.partition("=")
        if text[:1] == "f" and not number:
            name, number = "f", text[1:]
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        is_share = name in ("precision", "recall") and 0 < value <= 1
        if not is_share and not (name == "f" and 0 < value < math.inf):
            raise ValueError(
                "Expected an objective such as f1, f0.5, f2, precision=0.9 or recall=0.8, but got "
                f"{text!r}."
            )
        return cls(name, value)


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
        num_kept: detections at or above the threshold.
        is_reached: whether the precision or recall that was asked for is reached; None for an F
            score, which is only made as large as it gets, and for a class without objects.
    """

    threshold: float
    threshold_interval: tuple[float, float]
    precision: float
    precision_interval: tuple[float, float]
    recall: float
    recall_interval: tuple[float, float]
    num_objects: int
    num_kept: int
    is_reached: bool | None

    @property
    def is_blind(self) -> bool:
        """Whether the class has objects of which none is found at its threshold."""
        return self.num_objects > 0 and self.recall == 0


def choose_operating_points(
    stored: StoredMatches, objective: Objective, *, prior_objects: float = 20.0, seed: int = 0
) -> list[OperatingPoint]:
    """The operating point of each class at IoU 0.5.

    Args:
        stored: matches of one run, best on held-out images of the training set.
        objective: what to choose for.
        prior_objects: how many objects' worth the frequency group's curve counts in a class's.
        seed: of the halves and the resamples.

    Returns:
        K operating points.

    Raises:
        ValueError: there are no detections, or fewer than two images.
    """
    if stored.num_images < 2 or not len(stored.scores):
        raise ValueError(
            f"Expected detections on at least 2 images to choose thresholds from, but got "
            f"{len(stored.scores)} detections on {stored.num_images} images."
        )
    counts = ScoreCounts(stored)

    def choose(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _choose(counts.curves(weights), counts.groups, objective, prior_objects)

    ones = np.ones(stored.num_images)
    chosen, is_reached = choose(ones)
    # (K,) of both halves: what the threshold of the other half keeps.
    kept, right, objects = np.zeros((3, counts.num_classes))
    for half in leave_out_weights(stored.num_images, max_blocks=2, seed=seed).T:
        judged = counts.curves(1.0 - half)
        at = choose(half.astype(float))[0]
        rows = np.arange(counts.num_classes)
        right += judged.true[rows, at]
        kept += judged.true[rows, at] + judged.false[rows, at]
        objects += judged.objects
    rng = np.random.default_rng(seed)
    draws = np.array(
        [
            choose(np.bincount(rng.integers(len(ones), size=len(ones)), minlength=len(ones)))[0]
            for _ in range(_NUM_RESAMPLES)
        ]
    )
    ends = counts.thresholds[np.quantile(draws, [0.025, 0.975], axis=0, method="nearest")]
    totals = counts.curves(ones)
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
            num_kept=int(totals.true[k, chosen[k]] + totals.false[k, chosen[k]]),
            # What the group reaches is not reached by a class of which nothing is found.
            is_reached=bool(is_reached[k] and right[k] > 0)
            if objective.name != "f" and objects[k]
            else None,
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


def _choose(
    curves: Curves, groups: np.ndarray, objective: Objective, prior_objects: float
) -> tuple[np.ndarray, np.ndarray]:
    """Index of each class's threshold, (K,), and whether it reaches what was asked for, (K,).

    Where nothing is found the threshold is the highest: it keeps nothing rather than everything.
    """
    true, false, objects = (
        _with_prior(own, curves.objects, curves.true[:, 0], groups, prior_objects)
        for own in (curves.true, curves.false, curves.objects[:, None])
    )
    chosen, is_reached = _best(true, false, objects, objective)
    is_found = true[:, 0] > 0
    return np.where(is_found, chosen, true.shape[1] - 1), is_found & is_reached


def _best(
    true: np.ndarray, false: np.ndarray, objects: np.ndarray, objective: Objective
) -> tuple[np.ndarray, np.ndarray]:
    """`_choose` of (K, S) curves and (K, 1) objects."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if objective.name == "f":
            square = objective.value**2
            score = (1 + square) * true / (true + false + square * objects)
            return np.nan_to_num(score).argmax(axis=1), np.ones(len(score), dtype=bool)
        value = np.nan_to_num(
            true / (true + false) if objective.name == "precision" else true / objects
        )
    reaches = value >= objective.value
    is_reached = reaches.any(axis=1)
    if objective.name == "precision":
        return np.where(is_reached, reaches.argmax(axis=1), value.argmax(axis=1)), is_reached
    highest = reaches.shape[1] - 1 - reaches[:, ::-1].argmax(axis=1)
    return np.where(is_reached, highest, 0), is_reached


def _with_prior(
    own: np.ndarray,
    objects: np.ndarray,
    found: np.ndarray,
    groups: np.ndarray,
    prior_objects: float,
) -> np.ndarray:
    """Counts of each class and, scaled to `prior_objects` objects, of the rest of its group.

    The rest of all classes stands in for a group whose other classes have no objects, or none that
    are found.
    """
    pooled, pooled_objects = own.sum(axis=0) - own, objects.sum() - objects
    for group in np.unique(groups):
        members = groups == group
        rest_objects = objects[members].sum() - objects[members]
        rest_found = found[members].sum() - found[members]
        has_rest = (rest_objects > 0) & (rest_found > 0)
        rest = own[members].sum(axis=0) - own[members]
        pooled[members] = np.where(has_rest[:, None], rest, pooled[members])
        pooled_objects[members] = np.where(has_rest, rest_objects, pooled_objects[members])
    return own + pooled * (prior_objects / np.maximum(pooled_objects, 1.0))[:, None]
