"""One set of frequency groups for all classifiers of a page: those of the first run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from balms_seg.evaluation.images.classifier_predictions import StoredPredictions
from balms_seg.evaluation.images.run_differences import (
    TrainedClasses,
    describe_differences,
)
from balms_seg.evaluation.output.results_file import to_json
from balms_seg.evaluation.uncertainty.reliability import reliability
from balms_seg.report.run_files import Run
from balms_seg.report.task_files import IMAGE_TASK, TaskFiles


def with_shared_groups(runs: Sequence[Run]) -> list[Run]:
    """The runs, each grouped as the first one; every number of a group is computed anew.

    A class that the first run does not know is in no group. Numbers that cannot be computed, as
    the results per class are missing, are left out.
    """
    shared = {row["name"]: row["group"] for row in _rows(runs[0])}
    return [runs[0], *(_regrouped(run, shared) for run in runs[1:])]


def differences_in_words(runs: Sequence[Run]) -> list[str]:
    """What to know of the classes, training images and groups of runs, as they were evaluated."""
    first, *others = [TrainedClasses.from_rows(run.name, _rows(run)) for run in runs]
    return [text for other in others for text in describe_differences(first, other)]


def _regrouped(run: Run, shared: Mapping[str, str | None]) -> Run:
    own = {row["name"]: row["group"] for row in _rows(run)}
    if own == shared:
        return run
    task = run.tasks[IMAGE_TASK]
    rows = [{**row, "group": shared.get(row["name"])} for row in _rows(run)]
    metrics = {
        name: value
        for name, value in run.metrics[IMAGE_TASK].items()
        if name not in {f"top1-{group}" for group in run.groups}
    }
    sizes = {}
    if rows and shared:
        for group in reversed(run.groups):
            accuracies = [row["accuracy"] for row in rows if row["group"] == group]
            known = [value for value in accuracies if not math.isnan(value)]
            metrics[f"top1-{group}"] = float(np.mean(known)) if known else math.nan
            sizes[group] = {"classes": len(accuracies), "with_ground_truth": len(known)}
    predictions = task.predictions
    if predictions is not None:
        groups = tuple(shared.get(name) or "" for name in predictions.class_names)
        predictions = replace(predictions, groups=groups)
    changed = replace(
        task,
        classes=rows if task.classes is not None else None,
        predictions=predictions,
        reliability=_reliability(task, predictions),
    )
    return replace(
        run,
        metrics={**run.metrics, IMAGE_TASK: metrics},
        group_sizes=sizes,
        tasks={**run.tasks, IMAGE_TASK: changed},
    )


def _reliability(
    task: TaskFiles, stored: StoredPredictions | None
) -> dict[str, dict[str, float]] | None:
    """Of all images as it was; of each group's, where predictions say which these are."""
    if task.reliability is None:
        return None
    found = {"all": task.reliability["all"]}
    if stored is not None:
        predictions = stored.predictions
        of_images = np.array(stored.groups)[predictions.labels]
        for group in task.reliability:
            if group != "all":
                own = of_images == group
                part = reliability(predictions.confidences[own], predictions.is_right[own])
                found[group] = to_json(part.to_dict(), group)
    return found


def _rows(run: Run) -> list[dict]:
    return run.tasks[IMAGE_TASK].classes or []
