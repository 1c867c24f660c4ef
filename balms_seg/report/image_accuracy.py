"""How sure accuracies of image classifiers are: intervals over the choice of evaluation images."""

from __future__ import annotations

import math

import numpy as np

from balms_seg.evaluation.images.paired_accuracy import (
    AccuracyChange,
    compare_accuracy,
    wilson_interval,
)

from .run_files import IMAGE_TASK, Run


def accuracy_intervals(run: Run) -> dict[str, tuple[float, float]]:
    """95 % interval of the accuracy over all images ("top1") and of each group's mean, in percent.

    Wilson's, which holds where none or all of the images are right. The mean over a group's classes
    is as sure as a share of C^2 / sum(1 / n_c) images, for C classes with n_c images each: exact
    where the classes are equally hard, and wider than needed where they are not. None where the
    classes' results are missing.
    """
    rows = [row for row in run.tasks[IMAGE_TASK].classes or [] if row["val_images"]]
    if not rows:
        return {}
    images = np.array([row["val_images"] for row in rows], np.float64)
    share = np.array([row["accuracy"] for row in rows]) / 100
    found = {"top1": wilson_interval(float((images * share).sum() / images.sum()), images.sum())}
    for group in run.groups:
        own = np.array([row["group"] == group for row in rows])
        if own.any():
            number = float(own.sum() ** 2 / (1 / images[own]).sum())
            found[f"top1-{group}"] = wilson_interval(float(share[own].mean()), number)
    return {metric: (100 * low, 100 * high) for metric, (low, high) in found.items()}


def accuracy_changes(first: Run, second: Run) -> tuple[dict[str, AccuracyChange], str]:
    """How much more the second run gets right on the same images, per group's classes and in all.

    Returns:
        Per "top1" and "top1-GROUP", and why there is none where there is none.
    """
    one, other = (run.tasks[IMAGE_TASK].predictions for run in (first, second))
    if one is None or other is None:
        return {}, "predictions are missing"
    try:
        changes = compare_accuracy(one, other)
    except ValueError as error:
        return {}, str(error).rstrip(".")
    return {name: one for name, one in changes.items() if not math.isnan(one.value)}, ""
