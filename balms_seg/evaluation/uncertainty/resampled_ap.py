"""AP of every class on weighted evaluation images, from matches that stay.

A resample draws as many images as there are, with replacement; an image drawn w times counts w
times. Matching within an image does not change by it, so the matches stay and only the counts of
true and false positives get weights. The jackknife leaves images out with weight 0.

Symbols: I images, B resamples, K classes, T IoU thresholds, n detections and p rows of a class.
"""

from __future__ import annotations

import numpy as np

from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS
from balms_seg.evaluation.lvis.precision_recall import RECALL_LEVELS
from balms_seg.evaluation.predictions.match_file import StoredMatches
from balms_seg.progress import with_progress

_ELEMENTS_AT_ONCE = 1 << 21
_LEVELS = np.append(RECALL_LEVELS, np.inf)


def draw_weights(num_images: int, num_resamples: int, *, seed: int = 0) -> np.ndarray:
    """How often each resample holds each image, (I, B) int32; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    weights = np.empty((num_resamples, num_images), dtype=np.int32)
    for row in weights:
        row[:] = np.bincount(rng.integers(num_images, size=num_images), minlength=num_images)
    return np.ascontiguousarray(weights.T)


def resampled_class_ap(stored: StoredMatches, weights: np.ndarray) -> np.ndarray:
    """AP of every class in every resample.

    Args:
        stored: matches of one run.
        weights: (I, B) int32.

    Returns:
        (K, B) fractions; nan where the resample holds no annotation of the class.

    Raises:
        ValueError: the weights are of another number of images.
    """
    if len(weights) != stored.num_images:
        raise ValueError(
            f"Expected weights of {stored.num_images} images, but got {len(weights)} rows."
        )
    num_classes = len(stored.class_names)
    ap = np.full((num_classes, weights.shape[1]), np.nan)
    bounds = np.searchsorted(stored.classes, np.arange(num_classes + 1))
    row_bounds = np.searchsorted(stored.rows, bounds)
    order = np.argsort(stored.annotation_classes, kind="stable")
    annotation_bounds = np.searchsorted(
        stored.annotation_classes[order], np.arange(num_classes + 1)
    )
    for index in with_progress(range(num_classes), label="resampling", unit="class"):
        own = order[annotation_bounds[index] : annotation_bounds[index + 1]]
        if len(own) == 0:
            continue
        detections = slice(bounds[index], bounds[index + 1])
        rows = slice(row_bounds[index], row_bounds[index + 1])
        step = max(16, _ELEMENTS_AT_ONCE // max(len(own), bounds[index + 1] - bounds[index], 1))
        for start in range(0, weights.shape[1], step):
            part = slice(start, start + step)
            ap[index, part] = _weighted_ap(
                weights[:, part],
                stored.images[detections],
                stored.counts_unmatched[detections],
                stored.rows[rows] - bounds[index],
                stored.is_matched[rows],
                stored.is_ignored[rows],
                stored.annotation_images[own],
            )
    return ap


def _weighted_ap(
    weights: np.ndarray,
    images: np.ndarray,
    counts_unmatched: np.ndarray,
    rows: np.ndarray,
    is_matched: np.ndarray,
    is_ignored: np.ndarray,
    annotation_images: np.ndarray,
) -> np.ndarray:
    """AP of one class, (B,); arguments are its part of `StoredMatches`."""
    totals = weights[annotation_images].sum(axis=0, dtype=np.int64)
    is_true = is_matched & ~is_ignored
    change = is_true.astype(np.int32) - (is_matched & counts_unmatched[rows, None])
    last = rows.max(initial=-1) + 1
    counting = weights[images[:last]] * counts_unmatched[:last, None]
    unmatched = np.cumsum(counting, axis=0, dtype=np.int32)[rows]
    own_weights = weights[images[rows]]
    total_ap = np.zeros(weights.shape[1])
    for threshold in np.flatnonzero(is_true.any(axis=0)):
        chosen = np.flatnonzero(is_true[:, threshold])
        counted = unmatched[chosen]
        if change[:, threshold].any():
            changes = np.cumsum(own_weights * change[:, threshold, None], axis=0, dtype=np.int32)
            counted = counted + changes[chosen]
        found = np.cumsum(own_weights[chosen], axis=0, dtype=np.int32)
        precision = found / (counted + np.spacing(1))
        envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        reached = _levels_reached(found, totals)
        gained = np.diff(reached, axis=0, prepend=np.zeros((1, weights.shape[1]), reached.dtype))
        total_ap += (envelope * gained).sum(axis=0)
    ap = total_ap / (len(RECALL_LEVELS) * is_true.shape[1])
    return np.where(totals > 0, ap, np.nan)


def _levels_reached(found: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """How many recall levels `found` of `totals` objects reach; none without any found."""
    recall = found / np.maximum(totals, 1)
    levels = (recall * (len(RECALL_LEVELS) - 1)).astype(np.int64) + 1
    # The comparison itself decides, as rounding may put the product on the other side of it.
    levels += _LEVELS[levels] <= recall
    levels -= _LEVELS[levels - 1] > recall
    return np.where(found > 0, levels, 0)


def group_means(class_ap: np.ndarray, frequency: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Means over the classes that a resample holds: AP, APr, APc and APf, (B,) each.

    Args:
        class_ap: (K, B), nan for absent classes, which leave their resample's mean.
        frequency: K letters.
    """
    means = {}
    for name, own in _members(frequency).items():
        present = ~np.isnan(class_ap[own])
        sums = np.where(present, class_ap[own], 0.0).sum(axis=0)
        number = present.sum(axis=0)
        means[name] = np.divide(sums, number, out=np.full(len(sums), np.nan), where=number > 0)
    return means


def ap_of_groups(stored: StoredMatches, frequency: tuple[str, ...]) -> dict[str, float]:
    """AP, APr, APc and APf on the images as they are, fractions; nan without objects.

    Args:
        stored: matches of one run.
        frequency: K letters, perhaps of another run.
    """
    as_is = np.ones((stored.num_images, 1), dtype=np.int32)
    means = group_means(resampled_class_ap(stored, as_is), frequency)
    return {name: float(values[0]) for name, values in means.items()}


def classes_with_objects(stored: StoredMatches) -> dict[str, int]:
    """How many classes AP, APr, APc and APf on all images are means over."""
    present = np.zeros(len(stored.class_names), dtype=bool)
    present[stored.annotation_classes] = True
    return {name: int(present[own].sum()) for name, own in _members(stored.frequency).items()}


def _members(frequency: tuple[str, ...]) -> dict[str, np.ndarray]:
    """(K,) bool per metric: the classes it is a mean over."""
    letters = np.array(frequency)
    groups = {f"AP{letter}": letters == letter for letter in FREQUENCY_GROUPS}
    return {"AP": np.ones(len(letters), dtype=bool), **groups}


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled values; nan, nan where none is a number."""
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
