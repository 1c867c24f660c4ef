"""The parts of the report about image classifiers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from balms_seg.class_statistics.frequency_groups import PUBLISHED_BOUNDS
from balms_seg.report import charts, sections
from balms_seg.report.figure_sections import PageContent
from balms_seg.report.image_accuracy import accuracy_changes, accuracy_intervals
from balms_seg.report.run_files import IMAGE_TASK, Run, group_bounds_of

_NUM_WORST = 5
_TITLES = {"top1": "top-1", "top5": "top-5", "balanced_error": "balanced error", "ece": "ECE"}
_LOWER_IS_BETTER = ("balanced_error", "ece")

Row = Mapping[str, Any]


def verdict(runs: Sequence[Run], differences: Sequence[str] = ()) -> str:
    """What to know first: each run in a sentence, its worst classes, and who is ahead.

    Args:
        runs: with one set of groups.
        differences: sentences on what the runs differ in besides their accuracy.
    """
    sentences = [*compare_in_words(runs), *differences]
    parts = [f"<p>{sections.escape(text)}</p>" for text in sentences]
    columns = []
    for run in runs:
        head = f"<h3>{sections.escape(run.name)}</h3>" if len(runs) > 1 else ""
        text = sections.escape(" ".join(summarise_run(run)))
        columns.append(f"<div>{head}<p>{text}</p>{_worst_list(run)}</div>")
    body = "".join(parts) + sections.grid(columns)
    return f'<section id="verdict" class="verdict">\n<h2>In short</h2>\n{body}\n</section>'


def summarise_run(run: Run) -> list[str]:
    """Accuracy, by group, and how far the rarest group is behind."""
    metrics = run.metrics[IMAGE_TASK]
    known = {
        group: value
        for group in reversed(run.groups)
        if not math.isnan(value := metrics.get(f"top1-{group}", math.nan))
    }
    shown = ", ".join(f"{group} {value:.1f}" for group, value in known.items())
    sentences = [f"Top-1 accuracy is {metrics['top1']:.1f}" + (f" ({shown})." if shown else ".")]
    if len(known) > 1:
        low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
        gap = known[high] - known[low]
        sentences.append(f"The {low} group trails the {high} group by {gap:.1f} points.")
    return sentences


def compare_in_words(runs: Sequence[Run]) -> list[str]:
    """One sentence for each further run: how far it is from the first, and whether by chance."""
    sentences: list[str] = []
    has_changes = False
    for run in runs[1:]:
        parts = []
        changes, reason = accuracy_changes(runs[0], run)
        for metric, change in changes.items():
            judged = "larger than chance" if change.is_larger_than_chance else "within chance"
            interval = f"{100 * change.low:+.1f} to {100 * change.high:+.1f}"
            parts.append(f"{_title(metric)} {100 * change.value:+.1f} ({interval}, {judged})")
        found = "; ".join(parts) if parts else f"not compared, as {reason}"
        sentences.append(f"{run.name} against {runs[0].name}: {found}.")
        has_changes |= bool(parts)
    if has_changes:
        sentences.append(
            "In brackets: 95 % interval over the choice of images. Larger than chance: it leaves "
            "out 0, and McNemar's test agrees. Another seed adds to it."
        )
    return sentences


def _worst_list(run: Run) -> str:
    known = [row for row in _rows(run) if not math.isnan(row["accuracy"])]
    items = []
    for row in sorted(known, key=lambda row: row["accuracy"])[:_NUM_WORST]:
        count = row["train_image_count"]
        images = "" if count is None else f"{count:,} training image{'' if count == 1 else 's'}"
        other = row["most_confused_with"]
        reason = f"Mostly taken for {other}." if other else "Every image is right."
        items.append(
            f'<li><div class="value">{row["accuracy"]:.1f}<small>top-1</small></div><div>'
            f"<b>{sections.escape(row['name'])}</b> {sections.chip(row['group'])} "
            f'<span class="soft">{images}</span><br>{sections.escape(reason)}</div></li>'
        )
    if not items:
        return sections.note("There are no results per class, so the worst ones cannot be named.")
    return f'<ol class="worst">{"".join(items)}</ol>'


def headline(runs: Sequence[Run]) -> str:
    """The table of all runs, the best of several in bold."""
    columns = list(dict.fromkeys(name for run in runs for name in run.metrics[IMAGE_TASK]))
    intervals = [accuracy_intervals(run) for run in runs]
    lines = []
    for run, known in zip(runs, intervals, strict=True):
        cells = "".join(_cell(runs, run, column, known.get(column)) for column in columns)
        lines.append(f'<tr><td class="text">{sections.escape(run.name)}</td>{cells}</tr>')
    head = "".join(f"<th>{sections.escape(_title(column))}</th>" for column in columns)
    sizes = ", ".join(
        f"{name} {size['with_ground_truth']} of {size['classes']}"
        for name, size in runs[0].group_sizes.items()
    )
    few, medium = group_bounds_of(runs[0]) or PUBLISHED_BOUNDS
    text = (
        f"In percent. Many, medium, few: mean accuracy of the classes with more than {medium}, "
        f"{few + 1} to {medium} and at most {few} training images. Small: 95 % interval over the "
        "choice of images."
    )
    text += f" Classes with images in this set: {sizes}." if sizes else ""
    return (
        f'<div class="scroll"><table><thead><tr><th class="text">run</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>" + sections.note(text)
    )


def _cell(runs: Sequence[Run], run: Run, column: str, ends: tuple[float, float] | None) -> str:
    value = run.metrics[IMAGE_TASK].get(column, math.nan)
    if math.isnan(value):
        return "<td>n/a</td>"
    others = [one.metrics[IMAGE_TASK].get(column, math.nan) for one in runs]
    known = [round(other, 1) for other in others if not math.isnan(other)]
    best = min(known) if column in _LOWER_IS_BETTER else max(known)
    is_alone = len(runs) > 1 and known.count(best) == 1
    mark = ' class="best"' if is_alone and round(value, 1) == best else ""
    detail = f"<small>{ends[0]:.1f}–{ends[1]:.1f}</small>" if ends else ""
    return f"<td{mark}>{value:.1f}{detail}</td>"


def _title(metric: str) -> str:
    return _TITLES.get(metric) or metric.removeprefix("top1-")


def group_section(runs: Sequence[Run], content: PageContent) -> str:
    """Accuracy by frequency group, with intervals."""
    rows = []
    for run in runs:
        intervals = accuracy_intervals(run)
        metrics = {"all": "top1", **{group: f"top1-{group}" for group in run.groups}}
        for group, metric in metrics.items():
            value = run.metrics[IMAGE_TASK].get(metric, math.nan)
            if math.isnan(value):
                continue
            row = {"run": run.name, "group": group, "accuracy": round(value, 1)}
            if metric in intervals:
                low, high = intervals[metric]
                row |= {"low": round(low, 1), "high": round(high, 1)}
            rows.append(row)
    figure = charts.group_bars(runs, rows, "accuracy", "top-1 accuracy (%)")
    return sections.section(
        "groups",
        "Accuracy by frequency group",
        sections.note("The line is the 95 % interval over the choice of evaluation images."),
        content.place("accuracy-by-group", figure),
    )


def class_section(
    runs: Sequence[Run], columns: Sequence[Mapping[str, Any]], content: PageContent
) -> str:
    """Accuracy over class frequency, and the table of classes."""
    if not columns:
        return ""
    rows = [_rows(run) for run in runs]
    figure = charts.frequency_and_metric(runs, rows, "accuracy")
    table = sections.class_table(runs, columns)
    return sections.section(
        "classes", "Classes", content.place("frequency-and-accuracy", figure), table
    )


def class_rows(runs: Sequence[Run]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Columns and rows of the table of classes; what depends on the run is a list over runs."""
    by_name = [{row["name"]: row for row in _rows(run)} for run in runs]
    if not all(by_name) or len({frozenset(own) for own in by_name}) != 1:
        return [], []
    several = len(runs) > 1
    columns: list[dict[str, Any]] = [
        {
            **{"key": "name", "title": "class", "text": True, "style": "name"},
            "hint": "name of the class",
        },
        *(
            {
                "key": f"accuracy{i}",
                "title": f"top-1 {run.name}" if several else "top-1",
                "digits": 1,
                "style": "bar",
                "sorted": i == 0,
                "hint": "share of its images that are right, percent",
            }
            for i, run in enumerate(runs)
        ),
        {"key": "group", "title": "group", "text": True, "hint": "frequency group"},
        {"key": "images", "title": "train images", "hint": "training images of the class"},
        {"key": "top5", "title": "top-5", "digits": 1, "hint": "label among the first five"},
        {
            "key": "precision",
            "title": "precision",
            "digits": 1,
            "hint": "share of right ones among the images said to be of the class",
        },
        {"key": "objects", "title": "images", "hint": "images in the evaluation set"},
        {
            **{"key": "taken", "title": "taken for", "text": True, "style": "name"},
            "hint": "the commonest mistake",
        },
    ]
    for column in columns:
        column["perRun"] = column["key"] in {"top5", "precision", "taken"}
    rows = []
    for name, first in by_name[0].items():
        own = [rows_of_run[name] for rows_of_run in by_name]
        rows.append(
            {
                "name": str(name),
                "group": first["group"],
                "images": first["train_image_count"],
                "objects": first["val_images"],
                "top5": [_known(row["top5"]) for row in own],
                "precision": [_known(row["precision"]) for row in own],
                "taken": [row["most_confused_with"] for row in own],
                **{f"accuracy{i}": _known(row["accuracy"]) for i, row in enumerate(own)},
            }
        )
    return columns, rows


def _rows(run: Run) -> list[dict[str, Any]]:
    return run.tasks[IMAGE_TASK].classes or []


def _known(value: float) -> float | None:
    """As every part of the page shows it: the script would round what is rounded to 2 again."""
    return None if math.isnan(value) else round(value, 1)
