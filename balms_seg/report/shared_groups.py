"""One set of frequency groups for all runs of a page: those of the first run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from balms_seg.evaluation.images.classifier_predictions import StoredPredictions
from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS
from balms_seg.evaluation.output.results_file import to_json
from balms_seg.evaluation.uncertainty.reliability import reliability
from balms_seg.evaluation.uncertainty.run_differences import (
    TrainedClasses,
    describe_differences,
)
from balms_seg.evaluation.uncertainty.run_lengths import describe_unequal_lengths
from balms_seg.report.run_files import Run
from balms_seg.report.task_files import IMAGE_TASK, TaskFiles


def with_shared_groups(runs: Sequence[Run]) -> list[Run]:
    """The runs, each grouped as the first one; every number of a group is computed anew.

    A class that the first run does not know is in no group. Numbers that cannot be computed, as
    the results per class are missing, are left out.
    """
    shared = {row["name"]: row["group"] for row in _rows(runs[0])}
    if not shared and runs[0].main_task != IMAGE_TASK:
        return [*runs]
    return [runs[0], *(_regrouped(run, shared) for run in runs[1:])]


def differences_in_words(runs: Sequence[Run]) -> list[str]:
    """What to know of lengths, classes, training images and groups of runs, as evaluated."""
    unequal = describe_unequal_lengths([run.folder for run in runs], [run.name for run in runs])
    found = [unequal] if unequal else []
    if not _rows(runs[0]):
        return found
    first, *others = [
        TrainedClasses.from_rows(run.name, rows) for run in runs if (rows := _rows(run))
    ]
    return found + [text for other in others for text in describe_differences(first, other)]


def _regrouped(run: Run, shared: Mapping[str, str | None]) -> Run:
    if {row["name"]: row["group"] for row in _rows(run)} == shared:
        return run
    letters = {group: letter for letter, group in FREQUENCY_GROUPS.items()}
    metrics, tasks = {**run.metrics}, {}
    sizes: dict[str, dict[str, int]] = {}
    for task, files in run.tasks.items():
        rows = [{**row, "group": shared.get(row["name"])} for row in files.classes or []]
        metrics[task], of_task = _metrics(run, task, rows)
        sizes = sizes or of_task
        matches, predictions = files.matches, files.predictions
        if matches is not None:
            own = (letters.get(shared.get(name) or "", "") for name in matches.class_names)
            matches = replace(matches, frequency=tuple(own))
        if predictions is not None:
            groups = tuple(shared.get(name) or "" for name in predictions.class_names)
            predictions = replace(predictions, groups=groups)
        tasks[task] = replace(
            files,
            classes=rows if files.classes is not None else None,
            matches=matches,
            predictions=predictions,
            reliability=_reliability(files, predictions),
        )
    return replace(run, metrics=metrics, group_sizes=sizes, tasks=tasks)


def _metrics(
    run: Run, task: str, rows: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, float], dict[str, dict[str, int]]]:
    """Metrics with the means of the new groups, and the groups' sizes; empty without rows."""
    of_images = task == IMAGE_TASK
    columns = ("accuracy",) if of_images else ("AP", "AR")
    groups = run.groups[::-1] if of_images else run.groups
    means, sizes = {}, {}
    for column, group in product(columns, groups):
        values = [row[column] for row in rows if row["group"] == group]
        known = [value for value in values if not math.isnan(value)]
        name = f"top1-{group}" if of_images else f"{column}{group[0]}"
        means[name] = float(np.mean(known)) if known else math.nan
        sizes[group] = {"classes": len(values), "with_ground_truth": len(known)}
    # Variants of a group's metric, as APr_fixed, cannot be computed from rows.
    others = {k: v for k, v in run.metrics[task].items() if not k.startswith(tuple(means))}
    if not any(row["group"] for row in rows):
        return others, {}
    return {k: v for k, v in (run.metrics[task] | means).items() if k in others | means}, sizes


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
    return run.tasks[run.main_task].classes or []
