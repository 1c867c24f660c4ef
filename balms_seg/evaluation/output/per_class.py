"""Results per class as rows, csv and json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from balms_seg.annotations.class_limits import check_class_names
from balms_seg.annotations.json_file import read_json
from balms_seg.csv_files import csv_file
from balms_seg.evaluation.lvis.category_counts import TrainingCounts
from balms_seg.evaluation.lvis.error_kinds import ERROR_KINDS, ErrorCounts
from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS
from balms_seg.evaluation.lvis.lvis_ap import LVISResult
from balms_seg.evaluation.output.result_table import NOT_AVAILABLE, format_percent
from balms_seg.evaluation.output.results_file import to_json

SCHEMA_VERSION = 1
_PERCENT_COLUMNS = ("AP", "AP50", "AR", "accuracy", "top5", "precision")


def per_class_rows(
    result: LVISResult,
    *,
    class_ids: Mapping[int, int],
    class_names: Sequence[str] | None = None,
    training: TrainingCounts | None = None,
    errors: ErrorCounts | None = None,
) -> list[dict[str, Any]]:
    """One row per class, ordered by contiguous class id.

    Args:
        result: evaluation of one task.
        class_ids: contiguous class id per category id of the json; other categories are left out.
        class_names: names by contiguous class id; those of the json where None.
        training: training images and instances per category id.
        errors: of the same evaluation; without, these columns are left out.

    Returns:
        Rows with the same keys; AP, AP50 and AR in percent, nan without ground truth, None where
        something is not known.
    """
    training = training or TrainingCounts()
    index = {category_id: i for i, category_id in enumerate(result.category_ids)}

    def name_of(i: int) -> str:
        class_id = class_ids.get(result.category_ids[i])
        if class_names is None or class_id is None:
            return result.class_names[i]
        return class_names[class_id]

    rows = []
    for category_id, class_id in sorted(class_ids.items(), key=lambda item: item[1]):
        i = index[category_id]
        row: dict[str, Any] = {
            "class_id": class_id,
            "name": name_of(i),
            "group": FREQUENCY_GROUPS.get(result.frequency[i]),
            "val_instances": int(result.num_instances[i]),
            "train_image_count": training.images.get(category_id),
            "AP": 100 * float(result.class_ap[i]),
            "AP50": 100 * float(result.class_ap50[i]),
            "AR": 100 * float(result.class_ar[i]),
            "train_instance_count": training.instances.get(category_id),
        }
        if errors is not None:
            row |= {kind: int(errors.counts[kind][i]) for kind in ERROR_KINDS}
            other = int(errors.confused_with[i])
            known = other >= 0 and result.category_ids[other] in class_ids
            row["most_confused_with"] = name_of(other) if known else None
        rows.append(row)
    return rows


def write_per_class_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows; what is not known or not a number reads n/a."""
    with csv_file(path) as writer:
        if rows:
            writer.writerow(rows[0])
        for row in rows:
            writer.writerow([_cell(column, value) for column, value in row.items()])


def _cell(column: str, value: Any) -> Any:
    if column in _PERCENT_COLUMNS:
        return format_percent(value, digits=4)
    return NOT_AVAILABLE if value is None else value


def write_per_class_json(path: str | Path, rows: Sequence[Mapping[str, Any]], *, task: str) -> None:
    """Write the rows in full; nan becomes null."""
    record = {"schema_version": SCHEMA_VERSION, "task": task, "classes": rows}
    Path(path).write_text(json.dumps(to_json(record, "classes")) + "\n", encoding="utf-8")


def read_per_class_json(path: str | Path) -> list[dict[str, Any]]:
    """Rows that `write_per_class_json` wrote; null in a percentage becomes nan again."""
    record = read_json(path)
    if record.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"{path} has another version of per-class results; evaluate again.")
    check_class_names([str(row["name"]) for row in record["classes"]], str(path))
    for row in record["classes"]:
        row.update({c: math.nan for c in _PERCENT_COLUMNS if c in row and row[c] is None})
    return record["classes"]
