"""Evaluate a file of detections: metrics, intervals, files for each task, tables to print."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from balms_seg.evaluation.lvis.analysis import TaskAnalysis, analyse_task
from balms_seg.evaluation.lvis.evaluation_set import EvaluationSet
from balms_seg.evaluation.lvis.ground_truth import LVIS_MAX_DETECTIONS
from balms_seg.evaluation.lvis.pooled_ap import fixed_and_pooled_ap
from balms_seg.evaluation.output.evaluation_files import write_task_files
from balms_seg.evaluation.output.group_hints import describe_empty_groups
from balms_seg.evaluation.output.result_table import (
    format_intervals,
    format_lvis_table,
    format_percent,
)
from balms_seg.evaluation.output.results_file import write_results
from balms_seg.evaluation.predictions.moved_aside import move_another, require_elsewhere
from balms_seg.evaluation.predictions.staged_files import appearing_together
from balms_seg.evaluation.predictions.stored_detections import (
    StoredDetections,
    read_stored_detections,
)
from balms_seg.evaluation.uncertainty.jackknife import MEANING, ap_intervals

logger = logging.getLogger(__name__)

TASKS = ("bbox", "segm", "boundary")


def evaluate_file(
    file: Path,
    evaluation_set: EvaluationSet,
    *,
    tasks: Sequence[str] | None = None,
    max_detections: int = LVIS_MAX_DETECTIONS,
    fixed: bool = False,
    backend: str = "numpy",
    error_kinds: bool = True,
    with_intervals: bool = False,
    output: Path | None = None,
    training_json: Path | None = None,
) -> str:
    """Evaluate a json list of detections.

    Args:
        file: the list, in the format of LVIS and COCO.
        evaluation_set: what it is measured on.
        tasks: of bbox, segm and boundary; None for boxes and masks, where both sides have them.
        max_detections: that count in an image, by score.
        fixed: also AP-fixed and AP-pool.
        backend: of AP and AR, one of `BACKENDS`.
        error_kinds: count false positives by kind.
        with_intervals: also 95% intervals of AP and its groups.
        output: folder for results.json and, per task, results per class and matches; those of
            another evaluation there move to `earlier_evaluation_N` in it.
        training_json: where the counts of `evaluation_set` come from, to be noted in results.json.

    Returns:
        The tables.

    Raises:
        ValueError: the detections cannot be used, are not of this set, or are among what would
            move.
    """
    start = time.perf_counter()
    if output:
        require_elsewhere(file, output)
    ground_truth = evaluation_set.ground_truth
    with_masks = set(tasks or TASKS) != {"bbox"} and ground_truth.has_masks
    stored = read_stored_detections(file, ground_truth, with_masks=with_masks)
    if not len(stored):
        logger.warning("%s holds no detections; every AP is 0.", file)
    metrics, intervals, analyses = {}, {}, {}
    for task in tasks or _possible_tasks(evaluation_set, stored, file):
        analysis = analyse_task(
            ground_truth,
            stored.of_task(task),
            task,
            max_detections=max_detections,
            with_errors=error_kinds,
            backend=backend,
        )
        found = dict(analysis.result.metrics)
        if fixed:
            found |= fixed_and_pooled_ap(ground_truth, stored.of_task(task), task)
        metrics[task] = {name: 100 * value for name, value in found.items()}
        if with_intervals:
            intervals[task] = {
                name: [100 * end for end in ends]
                for name, ends in ap_intervals(analysis.matches).items()
            }
        analyses[task] = analysis
    sizes = analysis.result.group_sizes
    if output:
        evaluation = uuid.uuid4().hex
        with appearing_together(output, evaluation) as folder:
            for task, analysis in analyses.items():
                _write_task_files(folder, task, analysis, evaluation_set)
            write_results(
                folder / "results.json",
                metrics={evaluation_set.name: metrics},
                group_sizes={evaluation_set.name: sizes},
                evaluations={evaluation_set.name: evaluation},
                intervals={evaluation_set.name: intervals} if intervals else None,
                time_seconds=time.perf_counter() - start,
                command=shlex.join(sys.argv),
                detections=str(file),
                annotations=os.path.abspath(ground_truth.annotations.facts.source),
                training_annotations=training_json and os.path.abspath(training_json),
            )
            moved = move_another(output, folder / "results.json")
        if moved:
            logger.warning(moved)
    hint = describe_empty_groups(sizes, evaluation_set.training.images.values())
    lines = [format_lvis_table(metrics, sizes), *filter(None, [hint]), *_more_lines(metrics)]
    lines += [f"{task}: {format_intervals(ends)}" for task, ends in intervals.items()]
    return "\n".join(lines + [MEANING] * bool(intervals))


def _more_lines(metrics: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """What the table has no columns for."""
    for task, values in metrics.items():
        extra = [name for name in values if name.endswith(("_fixed", "_pool"))]
        if extra:
            shown = ", ".join(f"{name} {format_percent(values[name])}" for name in extra)
            yield f"{task}: {shown}"


def _possible_tasks(
    evaluation_set: EvaluationSet, stored: StoredDetections, file: Path
) -> Sequence[str]:
    tasks = evaluation_set.possible_tasks(stored.shape_keys)
    if not tasks:
        raise ValueError(
            f"Expected detections with 'bbox' or 'segmentation' in {file}, as the ground truth "
            "has, but there is none; name the task to see what is missing."
        )
    return tasks


def _write_task_files(
    folder: Path, task: str, analysis: TaskAnalysis, evaluation_set: EvaluationSet
) -> None:
    """Files of one task; classes are numbered by ascending category id."""
    ids = evaluation_set.ground_truth.category_ids
    write_task_files(
        folder,
        task,
        analysis,
        class_ids={category_id: number for number, category_id in enumerate(ids)},
        training=evaluation_set.training,
    )
