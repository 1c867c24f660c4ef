"""The LVIS table for people, and per-class results as csv."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from .ground_truth import FREQUENCY_GROUPS
from .lvis_ap import LVISResult

TABLE_COLUMNS = ("AP", "AP50", "AP75", "APr", "APc", "APf", "APs", "APm", "APl", "AR")
CSV_COLUMNS = (
    "class_id",
    "name",
    "group",
    "val_instances",
    "train_image_count",
    "AP",
    "AP50",
    "AR",
)
NOT_AVAILABLE = "n/a"


def format_lvis_table(
    results: Mapping[str, Mapping[str, float]],
    group_sizes: Mapping[str, Mapping[str, int]] | None = None,
) -> str:
    """Lay out results as a table with one row per task and a line with the group sizes.

    Args:
        results: metrics in percent per task ("bbox", "segm"); what is nan or missing reads n/a.
        group_sizes: `classes` and `with_ground_truth` per group name, as in `LVISResult`.

    Returns:
        Lines without a trailing newline.
    """
    rows = [
        [task, *(format_percent(metrics.get(column)) for column in TABLE_COLUMNS)]
        for task, metrics in results.items()
    ]
    cells = [["task", *TABLE_COLUMNS], *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")
    if group_sizes:
        sizes = ", ".join(
            f"{name} {size['with_ground_truth']}/{size['classes']}"
            for name, size in group_sizes.items()
        )
        lines.append(f"Classes with ground truth / all: {sizes}")
    return "\n".join(lines)


def format_percent(value: float | None, digits: int = 2) -> str:
    """Format a percentage; nan and None read n/a."""
    if value is None or math.isnan(value):
        return NOT_AVAILABLE
    return f"{value:.{digits}f}"


def write_per_class_csv(
    path: str | Path,
    result: LVISResult,
    *,
    class_ids: Mapping[int, int],
    class_names: Sequence[str] | None = None,
    train_image_counts: Mapping[int, int] | None = None,
) -> None:
    """Write one line per class, in percent, ordered by contiguous class id.

    Args:
        path: file to write.
        result: evaluation of one task.
        class_ids: contiguous class id per category id of the json; other categories are left out.
        class_names: names by contiguous class id; those of the json where None.
        train_image_counts: training images per category id, where known.
    """
    counts = train_image_counts or {}
    index = {category_id: i for i, category_id in enumerate(result.category_ids)}
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for category_id, class_id in sorted(class_ids.items(), key=lambda item: item[1]):
            i = index[category_id]
            values = (result.class_ap[i], result.class_ap50[i], result.class_ar[i])
            writer.writerow(
                [
                    class_id,
                    class_names[class_id] if class_names else result.class_names[i],
                    FREQUENCY_GROUPS.get(result.frequency[i], NOT_AVAILABLE),
                    int(result.num_instances[i]),
                    counts.get(category_id, NOT_AVAILABLE),
                    *(format_percent(100 * value, digits=4) for value in values),
                ]
            )
