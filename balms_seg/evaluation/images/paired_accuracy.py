"""Whether two classifiers differ by more than chance: on the same images, paired by their names.

n: images, K: classes, B: resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from balms_seg.class_statistics import CLASSIFICATION_GROUPS
from balms_seg.evaluation.images.classifier_predictions import StoredPredictions
from balms_seg.evaluation.uncertainty.difference import Difference
from balms_seg.wording import agreeing

NUM_RESAMPLES = 1000  # wherever nobody asks for another number, so that intervals agree
_RESAMPLES_AT_ONCE = 100


@dataclass(frozen=True)
class AccuracyChange(Difference):
    """How a second run's accuracy differs from a first one's; fractions, nan where unknown.

    Attributes:
        num_gained: images that only the second gets right.
        num_lost: images that only the first gets right.
        p_value: of McNemar's exact test.
        level: of the interval.
    """

    num_gained: int
    num_lost: int
    p_value: float
    level: float = 0.95

    @property
    def is_larger_than_chance(self) -> bool:
        """Whether the interval leaves out 0 and the test agrees, which needs six images."""
        return super().is_larger_than_chance and self.p_value < 1 - self.level


def require_same_images(first: StoredPredictions, second: StoredPredictions) -> np.ndarray:
    """(n,) where each image of the first run stands in the second.

    Raises:
        ValueError: the runs saw other images, or other labels of the same ones; says which.
    """
    one, other = first.predictions, second.predictions
    keys = _named_as(one.keys.tolist(), set(other.keys.tolist()))
    theirs = _named_as(other.keys.tolist(), set(keys))
    places = {key: place for place, key in enumerate(theirs)}
    only_first = [key for key in keys if key not in places]
    only_second = sorted(set(places) - set(keys))
    if only_first or only_second:
        shown = "; ".join(
            f"only in the {name}: {len(own)} ({', '.join(own[:2])})"
            for name, own in (("first", only_first), ("second", only_second))
            if own
        )
        raise ValueError(
            f"Expected two runs on the same images, but of {len(keys)} and {len(places)} {shown}; "
            "evaluate both on one set."
        )
    order = np.array([places[key] for key in keys], np.int64)
    ours = np.array(first.class_names)[one.labels]
    said = np.array(second.class_names)[other.labels[order]]
    disputed = np.flatnonzero(ours != said)
    if disputed.size:
        example = disputed[0]
        raise ValueError(
            f"Expected the same labels in both runs, but {disputed.size} of {len(keys)} images "
            f"{agreeing(disputed.size, 'differs', 'differ')}, such as {keys[example]} "
            f"({ours[example]} and {said[example]}); evaluate both on one set."
        )
    return order


def _named_as(keys: list[str], wanted: set[str]) -> list[str]:
    """Keys without the folders that all of them share, where that makes them the wanted ones.

    So a set is the same registered as photos/test, and as photos with the root test.
    """
    folders = keys[0].split("/")[:-1] if keys else []
    for depth in range(1, len(folders) + 1):
        prefix = "/".join(folders[:depth]) + "/"
        shorter = [key.removeprefix(prefix) for key in keys]
        if set(shorter) == wanted:
            return shorter
    return keys


def compare_accuracy(
    first: StoredPredictions,
    second: StoredPredictions,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, AccuracyChange]:
    """Compare top-1 accuracy over all images, as the mean over all classes and over a group's.

    The interval is that of a paired bootstrap over images. Where few images differ it is too
    narrow, so a difference also has to pass McNemar's exact test to be larger than chance.

    Args:
        first: a run; its frequency groups serve both.
        second: another on the same images, in any order.
        num_resamples: B; more give steadier ends.
        seed: of the resamples.
        level: of the interval, and 1 - level of the test.

    Returns:
        Per "top1", "balanced" and "top1-GROUP" of the groups that have images.

    Raises:
        ValueError: the runs saw other images or labels, or an argument is out of range.
    """
    if num_resamples < 2 or not 0 < level < 1:
        raise ValueError(
            f"Expected at least 2 resamples and a level between 0 and 1, but got {num_resamples} "
            f"and {level}."
        )
    cells, changes = _images_by_outcome(first, second), {}
    for name, members in _members(first).items():
        own = cells[members]
        if not own.sum():
            continue
        is_mean_of_classes = name != "top1"
        values = [_accuracy(own[None], run, is_mean_of_classes)[0] for run in (1, 2)]
        drawn = _resampled_differences(cells, members, is_mean_of_classes, num_resamples, seed)
        low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        lost, gained = (int(own[:, column].sum()) for column in (1, 2))
        ours, theirs = map(float, values)
        p_value = mcnemar_p_value(gained, lost)
        changes[name] = AccuracyChange(
            ours, theirs, float(low), float(high), gained, lost, p_value, level
        )
    return changes


def accuracy_of_groups(run: StoredPredictions, first: StoredPredictions) -> dict[str, float]:
    """Accuracies of a run by the names of `compare_accuracy`, fractions.

    Args:
        run: measured.
        first: another on the same images, perhaps itself; its frequency groups are taken.

    Raises:
        ValueError: the runs saw other images or labels.
    """
    cells = _images_by_outcome(first, run)
    return {
        name: float(_accuracy(cells[members][None], 2, name != "top1")[0])
        for name, members in _members(first).items()
        if cells[members].any()
    }


def _images_by_outcome(first: StoredPredictions, second: StoredPredictions) -> np.ndarray:
    """(K, 4) images by label and by which runs are right: neither, the first, the second, both."""
    order = require_same_images(first, second)
    rights = first.predictions.is_right, second.predictions.is_right[order]
    outcome = rights[0] + 2 * rights[1].astype(np.int64)
    num_classes = len(first.class_names)
    labels = first.predictions.labels
    return np.bincount(4 * labels + outcome, minlength=4 * num_classes).reshape(-1, 4)


def _resampled_differences(
    cells: np.ndarray, members: np.ndarray, is_mean_of_classes: bool, num_resamples: int, seed: int
) -> np.ndarray:
    """(B,) second minus first accuracy in resamples of all images, the same for every group."""
    rng = np.random.default_rng(seed)
    number, shares = cells.sum(), cells.ravel() / cells.sum()
    found = []
    for start in range(0, num_resamples, _RESAMPLES_AT_ONCE):
        size = min(_RESAMPLES_AT_ONCE, num_resamples - start)
        # n draws with replacement hold each cell as often as a multinomial says.
        drawn = rng.multinomial(number, shares, size=size).reshape(size, -1, 4)[:, members]
        first, second = (_accuracy(drawn, run, is_mean_of_classes) for run in (1, 2))
        found.append(second - first)
    return np.concatenate(found)


def _members(run: StoredPredictions) -> Mapping[str, np.ndarray]:
    groups = np.array(run.groups)
    names = [name for name in reversed(CLASSIFICATION_GROUPS) if name in run.groups]
    return {
        "top1": np.ones(len(groups), bool),
        "balanced": np.ones(len(groups), bool),
        **{f"top1-{name}": groups == name for name in names},
    }


def _accuracy(cells: np.ndarray, run: int, is_mean_of_classes: bool) -> np.ndarray:
    """(B,) accuracy of run 1 or 2 in (B, C, 4) images by class and outcome."""
    right = cells[..., run] + cells[..., 3]
    images = cells.sum(axis=-1)
    if not is_mean_of_classes:
        return _share(right.sum(axis=1), images.sum(axis=1))
    known = (images > 0).sum(axis=1)
    return _share(np.where(images > 0, right / np.maximum(images, 1), 0).sum(axis=1), known)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def mcnemar_p_value(num_gained: int, num_lost: int) -> float:
    """Two-sided exact p value that as many images changed sides by chance.

    Source: McNemar 1947; the exact form is a binomial test of the images that changed.
    """
    number, fewer = num_gained + num_lost, min(num_gained, num_lost)
    if number == 0:
        return 1.0
    log_half = number * math.log(0.5)
    tail = sum(
        math.exp(
            log_half + math.lgamma(number + 1) - math.lgamma(k + 1) - math.lgamma(number - k + 1)
        )
        for k in range(fewer + 1)
    )
    return min(1.0, 2 * tail)


def wilson_interval(share: float, number: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share found in so many independent images; holds at shares of 0 and 1 too.

    Source: Wilson 1927.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = (
        z / (1 + z**2 / number) * math.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    )
    # Rounding leaves ends of 0 and 1 beside them.
    return (centre - half if share > 0 else 0.0), (centre + half if share < 1 else 1.0)
