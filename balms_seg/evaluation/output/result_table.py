"""Tables of results for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from balms_seg.evaluation.uncertainty.difference import MIN_CLASSES, too_few_classes

TABLE_COLUMNS = (
    *("AP", "AP50", "AP75", "APr", "APc", "APf", "APs", "APm", "APl"),
    *("AR", "ARr", "ARc", "ARf"),
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
    lines = layout_table([["task", *TABLE_COLUMNS], *rows])
    if group_sizes:
        lines.append(f"Classes with ground truth / all: {_shown_sizes(group_sizes)}")
        lines += _not_judged(group_sizes, "objects")
    return "\n".join(lines)


def format_classification_table(
    results: Mapping[str, Mapping[str, float]],
    group_sizes: Mapping[str, Mapping[str, int]] | None = None,
    group_spans: Mapping[str, tuple[int, int]] | None = None,
) -> str:
    """Lay out accuracies as a table with one row per data set, and lines on the groups.

    Args:
        results: metrics in percent per data set; nan reads n/a.
        group_sizes: `classes` and `with_ground_truth` per group name.
        group_spans: fewest and most training images of a group's classes.

    Returns:
        Lines without a trailing newline.
    """
    columns = list(dict.fromkeys(name for metrics in results.values() for name in metrics))
    rows = [
        [name, *(format_percent(metrics.get(column)) for column in columns)]
        for name, metrics in results.items()
    ]
    lines = layout_table([["data set", *columns], *rows])
    if group_sizes:
        lines.append(f"Classes with images / all: {_shown_sizes(group_sizes)}")
        lines += _not_judged(group_sizes, "images")
    if group_spans:
        shown = (f"{name} {low}-{high}" for name, (low, high) in group_spans.items())
        lines.append(f"Training images a class: {', '.join(shown)}")
    return "\n".join(lines)


def layout_table(cells: Sequence[Sequence[str]]) -> list[str]:
    """Markdown lines of a table whose first row is its head."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")
    return lines


def _shown_sizes(group_sizes: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(
        f"{name} {size['with_ground_truth']}/{size['classes']}"
        for name, size in group_sizes.items()
    )


def _not_judged(group_sizes: Mapping[str, Mapping[str, int]], things: str) -> list[str]:
    """A line on the groups whose numbers are those of too few classes; none where all have more."""
    small = [
        name for name, size in group_sizes.items() if 0 < size["with_ground_truth"] < MIN_CLASSES
    ]
    if not small:
        return []
    return [
        f"Not judged: {' and '.join(small)}, of which {too_few_classes(things)}. A number of one "
        "class says nothing of its group."
    ]


def format_score(value: float, digits: int = 2) -> str:
    """A share or score with so many decimals, or significant digits where it is small.

    A score of 0.004 reads 0.0040 and not 0.00; nan reads n/a.
    """
    if math.isnan(value):
        return NOT_AVAILABLE
    return f"{value:#.{digits}g}" if 0 < value < 0.1 else f"{value:.{digits}f}"


def format_percent(value: float | None, digits: int = 2) -> str:
    """Format a percentage; nan and None read n/a."""
    if value is None or math.isnan(value):
        return NOT_AVAILABLE
    return f"{value:.{digits}f}"


def format_intervals(intervals: Mapping[str, Sequence[float]]) -> str:
    """One line with the 95% interval of each metric, in percent; without ground truth n/a."""
    shown = [
        f"{name} {NOT_AVAILABLE if math.isnan(low) else f'{low:.2f} to {high:.2f}'}"
        for name, (low, high) in intervals.items()
    ]
    return "95% intervals, of other image sets of this size: " + ", ".join(shown)
