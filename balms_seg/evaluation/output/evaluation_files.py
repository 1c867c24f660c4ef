"""The files that an evaluation leaves for people, the report and later comparisons."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from balms_seg.evaluation.lvis.analysis import TaskAnalysis
from balms_seg.evaluation.lvis.category_counts import TrainingCounts
from balms_seg.evaluation.output.per_class import (
    per_class_rows,
    write_per_class_csv,
    write_per_class_json,
)
from balms_seg.evaluation.output.results_file import to_json
from balms_seg.evaluation.predictions.match_file import write_matches

SCHEMA_VERSION = 1


def write_task_files(
    output_dir: str | Path,
    task: str,
    analysis: TaskAnalysis,
    *,
    class_ids: Mapping[int, int],
    class_names: Sequence[str] | None = None,
    training: TrainingCounts | None = None,
) -> None:
    """Write per_class_{task}.csv and .json, calibration_{task}.json and matches_{task}.npz.

    Args:
        output_dir: made where missing.
        task: part of the names.
        analysis: of the task.
        class_ids: contiguous class id per category id of the json.
        class_names: names by contiguous class id; those of the json where None.
        training: training images and instances per category id.
    """
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    rows = per_class_rows(
        analysis.result,
        class_ids=class_ids,
        class_names=class_names,
        training=training,
        errors=analysis.errors,
    )
    write_per_class_csv(folder / f"per_class_{task}.csv", rows)
    write_per_class_json(folder / f"per_class_{task}.json", rows, task=task)
    write_matches(folder / f"matches_{task}.npz", analysis.matches)
    if analysis.calibration is not None:
        groups = {name: group.to_dict() for name, group in analysis.calibration.items()}
        record = {"schema_version": SCHEMA_VERSION, "task": task, "groups": groups}
        text = json.dumps(to_json(record, "calibration"))
        (folder / f"calibration_{task}.json").write_text(text + "\n", encoding="utf-8")
