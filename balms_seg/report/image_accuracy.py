"""How sure accuracies of image classifiers are: intervals over the choice of evaluation images.

n: images, C: classes of a group that have images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from balms_seg.report.run_files import IMAGE_TASK, Run

_Z = 1.96  # 95 % of a normal distribution


class Change(NamedTuple):
    """A difference in percent with its 95 % interval; nan where it is not known."""

    value: float
    low: float
    high: float

    @property
    def is_larger_than_chance(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def accuracy_intervals(run: Run) -> dict[str, tuple[float, float]]:
    """95 % interval of the accuracy over all images ("top1") and of each group's mean, in percent.

    Normal approximation with the images of each class drawn on their own; none where the classes'
    results are missing.
    """
    rows = run.tasks[IMAGE_TASK].classes or []
    if not rows:
        return {}
    images = np.array([row["val_images"] for row in rows])
    share = np.nan_to_num(np.array([row["accuracy"] for row in rows])) / 100
    variances = share * (1 - share) / np.maximum(images, 1)
    found = {}
    members = {"top1": images > 0}
    members |= {
        f"top1-{group}": (images > 0) & np.array([row["group"] == group for row in rows])
        for group in run.groups
    }
    for metric, own in members.items():
        if not own.any():
            continue
        weights = images[own] / images[own].sum() if metric == "top1" else 1 / own.sum()
        value = 100 * (weights * share[own]).sum()
        half = 100 * _Z * float(np.sqrt((weights**2 * variances[own]).sum()))
        found[metric] = (max(value - half, 0.0), min(value + half, 100.0))
    return found


def accuracy_changes(first: Run, second: Run) -> dict[str, Change]:
    """How much more the second run gets right on the same images, per group's classes and in all.

    Returns:
        Per "top1" and "top1-GROUP"; empty where predictions are missing or of other images.
    """
    one, other = (run.tasks[IMAGE_TASK].predictions for run in (first, second))
    if one is None or other is None or not np.array_equal(one["samples"], other["samples"]):
        return {}
    labels = one["labels"]
    gained = (other["predicted"] == labels).astype(np.int64) - (one["predicted"] == labels)
    rows = first.tasks[IMAGE_TASK].classes or []
    group_of = np.array([row["group"] or "" for row in rows] or [""] * (labels.max() + 1))
    found = {"top1": _mean_change([gained])}
    for group in first.groups:
        per_class = [gained[labels == i] for i in np.flatnonzero(group_of == group)]
        found[f"top1-{group}"] = _mean_change([values for values in per_class if len(values)])
    return found


def _mean_change(parts: list[np.ndarray]) -> Change:
    """Mean over the parts' means, in percent."""
    if not parts:
        return Change(np.nan, np.nan, np.nan)
    value = 100 * float(np.mean([part.mean() for part in parts]))
    variance = sum(part.var() / len(part) for part in parts) / len(parts) ** 2
    half = 100 * _Z * float(np.sqrt(variance))
    return Change(value, value - half, value + half)
