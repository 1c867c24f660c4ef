"""The parts of the report that hold figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from balms_seg.evaluation.uncertainty.jackknife import MEANING
from balms_seg.report import charts, error_charts, sections, training_charts
from balms_seg.report.findings import ClassFinding
from balms_seg.report.gallery import GalleryEntry
from balms_seg.report.object_fates import ObjectFates
from balms_seg.report.run_files import IMAGE_TASK, TASK_NAMES, Run

_CONFUSION_MIN_WIDTH_PX = 640


@dataclass
class PageContent:
    """What is gathered for the page."""

    figures: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)  # written beside it

    def place(self, name: str, spec: Any, title: str = "", *, min_width_px: int = 0) -> str:
        """Keep a figure and return its place; nothing where there is no figure."""
        if spec is None:
            return ""
        self.figures[name] = spec
        return sections.figure(name, title, min_width_px=min_width_px)


def group_section(
    runs: Sequence[Run], intervals: Mapping[str, Sequence[sections.Intervals]], content: PageContent
) -> str:
    """AP by frequency group, with intervals."""
    figures = [
        content.place(f"ap-by-group-{task}", charts.ap_by_group(runs, task, intervals[task]), title)
        for task, title in TASK_NAMES.items()
    ]
    return sections.section(
        "groups",
        "AP by frequency group",
        sections.note(f"The line is the 95 % interval. {MEANING}"),
        sections.grid([one for one in figures if one]),
    )


def class_section(
    runs: Sequence[Run],
    findings: Sequence[Sequence[ClassFinding]],
    columns: Sequence[Mapping[str, Any]],
    content: PageContent,
) -> str:
    """AP over class frequency, and the table of classes."""
    rows = [[finding.row for finding in own] for own in findings]
    frequency = content.place("frequency-and-ap", charts.frequency_and_metric(runs, rows))
    table = sections.class_table(runs, columns) if columns else ""
    return sections.section("classes", "Classes", frequency, table)


def error_section(
    runs: Sequence[Run],
    findings: Sequence[Sequence[ClassFinding]],
    fates: Sequence[ObjectFates | None],
    content: PageContent,
) -> str:
    """What becomes of the objects, and what the tail is taken for."""
    shares = content.place("fates-by-group", error_charts.fates_by_group(runs, findings))
    confusion = [
        content.place(
            f"tail-confusion-{i}",
            error_charts.tail_confusion(findings[i], own),
            f"Confusion among the tail{': ' + run.name if len(runs) > 1 else ''}",
            min_width_px=_CONFUSION_MIN_WIDTH_PX,
        )
        for i, (run, own) in enumerate(zip(runs, fates, strict=True))
        if own is not None
    ]
    if not shares:
        return ""
    return sections.section(
        "errors",
        "What becomes of the objects",
        sections.note(
            "Each object counts once: the best-scored detection that covers it (IoU from 0.5), of "
            "whatever class, is right or confused. Where none covers it, it is misplaced if a "
            "detection of its class touches it (IoU from 0.1), else not found."
        ),
        shares,
        *confusion,
    )


def gallery_section(runs: Sequence[Run], entries: Sequence[GalleryEntry]) -> str:
    """Pictures of failures and successes."""
    failures = [entry for entry in entries if not all(entry.is_right)]
    successes = [entry for entry in entries if all(entry.is_right)]
    return sections.section(
        "gallery",
        "Objects of the tail",
        "<h3>Failures</h3>" + sections.gallery(runs, failures) if failures else "",
        "<h3>Successes</h3>" + sections.gallery(runs, successes) if successes else "",
    )


def reliability_section(runs: Sequence[Run], content: PageContent) -> str:
    """Reliability of the scores, one figure a group."""
    task = runs[0].main_task
    figures = []
    for group in ("all", *runs[0].groups):
        errors = [
            f"{100 * error:.1f}"
            for run in runs
            if task in run.tasks and (known := run.tasks[task].reliability)
            if (own := known.get(group))
            and (error := own["expected_calibration_error"]) is not None
        ]
        title = f"{group}: ECE {' / '.join(errors)} %"
        spec = charts.reliability(runs, task, group)
        figures.append(content.place(f"reliability-{group}", spec, title))
    figures = [one for one in figures if one]
    if not figures:
        return ""
    noun, rule = ("image", "") if task == IMAGE_TASK else ("detection", " (IoU from 0.5)")
    return sections.section(
        "reliability",
        "Can the scores be trusted?",
        sections.note(
            f"On the dashed line scores are the share of right {noun}s{rule}; below it the model "
            f"is too sure. ECE is the mean distance, each {noun} counting once."
        ),
        sections.grid(figures, small=True),
    )


def curve_section(runs: Sequence[Run], content: PageContent) -> str:
    """Learning curves, one figure an entry of metrics.json."""
    figures = [
        content.place(
            f"curve-{key.replace('/', '-')}", training_charts.learning_curve(runs, key), key
        )
        for key in training_charts.curve_keys(runs)
    ]
    parts = [one for one in figures if one]
    return sections.section("curves", "Learning curves", sections.grid(parts, small=True))


def rates_section(runs: Sequence[Run], content: PageContent) -> str:
    """Rates or weights that a meta step learned."""
    parts = []
    for i, run in enumerate(runs):
        by_class, by_iteration = (
            training_charts.learned_rates(run),
            training_charts.learned_rates_by_iteration(run),
        )
        parts += [
            content.place(f"learned-rates-{i}", by_class, run.name),
            content.place(f"learned-rates-by-iteration-{i}", by_iteration, "by iteration"),
        ]
    explanation = sections.note("Loss weights or sample rates that a meta step learned per class.")
    parts = [part for part in parts if part]
    return (
        sections.section("rates", "Learned rates", explanation, sections.grid(parts))
        if parts
        else ""
    )
