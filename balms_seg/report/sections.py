"""The parts of the report as HTML; figures are placeholders that the page's script fills."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from balms_seg.evaluation.uncertainty.difference import Difference, too_few_classes
from balms_seg.evaluation.uncertainty.jackknife import MEANING
from balms_seg.evaluation.uncertainty.run_comparison import NOTHING_YET, find_next_to_nothing
from balms_seg.report.findings import (
    METRIC_OF_GROUP,
    OUTSCORE_GLOSS,
    ClassFinding,
    summarise_run,
    worst_classes,
)
from balms_seg.report.gallery import GalleryEntry
from balms_seg.report.run_files import TASK_NAMES, Run

HEADLINE = ("AP", "AP50", "AP75", "APr", "APc", "APf", "AR")
_FIRST_VERSIONS = ("balms_seg", "detectron2", "torch")

Intervals = Mapping[str, tuple[float, float]]


def escape(value: Any) -> str:
    """Text as HTML."""
    return html.escape(str(value))


def section(name: str, title: str, *parts: str) -> str:
    """A titled part with an anchor; nothing where all of it is empty."""
    body = "\n".join(part for part in parts if part)
    if not body:
        return ""
    return f'<section id="{name}">\n<h2>{escape(title)}</h2>\n{body}\n</section>'


def note(text: str) -> str:
    """An explaining sentence."""
    return f'<p class="soft">{escape(text)}</p>'


def figure(name: str, title: str = "", *, min_width_px: int = 0) -> str:
    """Place of a figure; it scrolls sideways where the page is narrower than `min_width_px`."""
    wide = f' style="min-width: {min_width_px}px"' if min_width_px else ""
    head = f"<h3>{escape(title)}</h3>" if title else ""
    label = escape(title or name.replace("-", " "))
    return (
        f'<figure>{head}<div class="scroll"><div class="chart"{wide} role="img" '
        f'aria-label="{label}" data-figure="{escape(name)}"></div></div></figure>'
    )


def grid(parts: Sequence[str], *, small: bool = False) -> str:
    """Parts beside each other where there is room."""
    if not parts:
        return ""
    return f'<div class="grid{" small" if small else ""}">{"".join(parts)}</div>'


def verdict(
    runs: Sequence[Run],
    findings: Sequence[Sequence[ClassFinding]],
    differences: Sequence[Mapping[str, Difference]],
    classes_differ: Sequence[str],
) -> str:
    """What to know first: each run in a few sentences, its worst classes, and who is ahead.

    Args:
        runs: with one set of groups.
        findings: of each run.
        differences: of each further run to the first.
        classes_differ: sentences on what the runs' classes differ in.
    """
    sentences = [*compare_in_words(runs, differences), *classes_differ]
    parts = [f"<p>{escape(text)}</p>" for text in sentences]
    columns = []
    for run, own in zip(runs, findings, strict=True):
        head = f"<h3>{escape(run.name)}</h3>" if len(runs) > 1 else ""
        summary = f"<p>{escape(' '.join(summarise_run(run, own)))}</p>"
        columns.append(f"<div>{head}{summary}{_worst_list(own)}</div>")
    body = "".join(parts) + grid(columns)
    return (
        f'<section id="verdict" class="verdict">\n<h2>What failed, and why</h2>\n{body}\n</section>'
    )


def compare_in_words(
    runs: Sequence[Run], differences: Sequence[Mapping[str, Difference]]
) -> list[str]:
    """One sentence for each further run: how far it is from the first, and whether by chance."""
    sentences = []
    for run, own in zip(runs[1:], differences, strict=True):
        if not own:
            continue
        parts = []
        for metric in ("AP", *METRIC_OF_GROUP.values()):
            one = own[metric]
            if math.isnan(one.low):
                continue
            change = f"{metric} {100 * one.value:+.1f}"
            if not one.can_be_judged:
                parts.append(f"{change} (classes with objects: {one.num_classes}, not judged)")
                continue
            judged = "larger than chance" if one.is_larger_than_chance else "within chance"
            parts.append(f"{change} ({100 * one.low:+.1f} to {100 * one.high:+.1f}, {judged})")
        sentences.append(f"{run.name} against {runs[0].name}: {'; '.join(parts)}.")
    if sentences:
        sentences.append(
            "In brackets: 95 % interval over the choice of images. Another seed adds to it."
        )
    if any("not judged" in sentence for sentence in sentences):
        sentences.append(
            f"Not judged: {too_few_classes()}, or each choice of images gives the same difference."
        )
    if sentences and all(map(find_next_to_nothing, filter(None, differences))):
        sentences.append(NOTHING_YET)
    return sentences


def _worst_list(findings: Sequence[ClassFinding]) -> str:
    items = []
    for finding in worst_classes(findings):
        row = finding.row
        reasons = "; ".join(finding.reasons()) or "no single cause stands out"
        known = row.get("train_image_count")
        images = "" if known is None else f"{known:,} training image{'' if known == 1 else 's'}"
        items.append(
            f'<li><div class="value">{finding.ap:.1f}<small>AP</small></div><div>'
            f"<b>{escape(row['name'])}</b> {chip(row['group'])} "
            f'<span class="soft">{images}</span><br>{escape(_sentence(reasons))}</div></li>'
        )
    if not items:
        return note("There are no results per class, so the worst ones cannot be named.")
    gloss = note(OUTSCORE_GLOSS) if any("outscore" in item for item in items) else ""
    return f'<ol class="worst">{"".join(items)}</ol>{gloss}'


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def chip(group: str | None) -> str:
    """A frequency group in its colour."""
    return f'<span class="chip {escape(group)}">{escape(group)}</span>' if group else ""


def headline(runs: Sequence[Run], intervals: Mapping[str, Sequence[Intervals]]) -> str:
    """The LVIS table of all runs, masks before boxes, in bold what is better than all else."""
    lines = []
    for task, title in TASK_NAMES.items():
        having = [i for i, run in enumerate(runs) if task in run.metrics]
        for i in having:
            cells = [
                _metric_cell(runs, task, column, i, intervals[task][i].get(column))
                for column in HEADLINE
            ]
            name = escape(runs[i].name) if len(runs) > 1 else title
            detail = f"<small>{title}</small>" if len(runs) > 1 else ""
            lines.append(f'<tr><td class="text">{name}{detail}</td>{"".join(cells)}</tr>')
    head = "".join(f"<th>{column}</th>" for column in HEADLINE)
    sizes = runs[0].group_sizes
    shown = ", ".join(
        f"{name} {size['with_ground_truth']} of {size['classes']}" for name, size in sizes.items()
    )
    groups = f" Classes with objects in this set: {shown}." if shown else ""
    explanation = (
        "In percent. APr, APc, APf: rare, common and frequent classes by training images." + groups
    )
    if any(one for per_task in intervals.values() for one in per_task):
        explanation += f" Small: 95 % intervals. {MEANING}"
    return (
        f'<div class="scroll"><table><thead><tr><th class="text">run</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>" + note(explanation)
    )


def _metric_cell(
    runs: Sequence[Run], task: str, column: str, i: int, ends: tuple[float, float] | None
) -> str:
    value = runs[i].metrics[task].get(column, math.nan)
    if math.isnan(value):
        return "<td>n/a</td>"
    others = [run.metrics.get(task, {}).get(column, math.nan) for run in runs]
    known = [round(other, 1) for other in others if not math.isnan(other)]
    is_alone = len(runs) > 1 and known.count(max(known)) == 1
    best = ' class="best"' if is_alone and round(value, 1) == max(known) else ""
    detail = ""
    if ends is not None and not math.isnan(ends[0]):
        detail = f"<small>{ends[0]:.1f}–{ends[1]:.1f}</small>"
    return f"<td{best}>{value:.1f}{detail}</td>"


def class_table(runs: Sequence[Run], columns: Sequence[Mapping[str, Any]]) -> str:
    """Controls and the empty table, which the page's script fills, sorts and filters."""
    head = "".join(
        f'<th class="{_column_class(column)}"><button type="button" '
        f'title="{escape(column["hint"])}">{_breakable(column["title"])}</button></th>'
        for column in columns
    )
    buttons = "".join(
        f'<button type="button" data-group-filter="{group}" aria-pressed="{str(not group).lower()}"'
        f">{group or 'all'}</button>"
        for group in ("", *runs[0].groups)
    )
    choice = ""
    if len(runs) > 1:
        options = "".join(
            f'<option value="{i}">details of {escape(run.name)}</option>'
            for i, run in enumerate(runs)
        )
        choice = (
            f'<select id="class-run" aria-label="run whose details are shown">{options}</select>'
        )
    return (
        '<div class="controls"><input id="class-search" type="search" '
        f'placeholder="Filter by name, cause ..." aria-label="filter classes">{buttons}{choice}'
        '<span id="class-count" class="soft" role="status"></span></div>'
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        "<tbody></tbody></table></div>"
    )


def _breakable(name: str) -> str:
    """A run's name that may go over several lines, behind what joins its words."""
    return re.sub(r"([_/.-])", r"\1<wbr>", escape(name))


def _column_class(column: Mapping[str, Any]) -> str:
    return " ".join(filter(None, ["text" * bool(column.get("text")), column.get("style")]))


def gallery(runs: Sequence[Run], entries: Sequence[GalleryEntry]) -> str:
    """Pictures in rows: ground truth, then each run."""
    if not entries:
        return ""
    shown = []
    for entry in entries:
        tiles = [_tile(entry.truth, f"ground truth: {entry.class_name}", "")]
        for i, run in enumerate(runs):
            who = f"{run.name}: " if len(runs) > 1 else ""
            kind = "good" if entry.is_right[i] else "wrong"
            tiles.append(_tile(entry.predictions[i], f"{who}{entry.outcomes[i]}", kind))
        shown.append(
            f'<div class="entry"><h3>{escape(entry.class_name)} {chip(entry.group)} '
            f'<span class="soft">{escape(entry.file_name)}</span></h3>'
            f'<div class="tiles">{"".join(tiles)}</div></div>'
        )
    return f'<div class="gallery" style="--tiles: {len(runs) + 1}">{"".join(shown)}</div>'


def _tile(source: str, caption: str, kind: str) -> str:
    text = escape(caption)
    return (
        f'<figure><img loading="lazy" src="{source}" alt="{text}">'
        f'<figcaption class="{kind}">{text}</figcaption></figure>'
    )


def provenance(run: Run, *, several: bool) -> str:
    """Commit, versions, seed, time and the resolved configuration of a run."""
    record = run.record
    versions = record.get("versions") or {}
    order = [*_FIRST_VERSIONS, *(name for name in versions if name not in _FIRST_VERSIONS)]
    seconds = record.get("time_seconds")
    facts = {
        "folder": run.folder,
        "commit": record.get("commit"),
        "command": record.get("command"),
        "annotations": record.get("annotations"),
        "training annotations": record.get("training_annotations"),
        "seed": record.get("seed"),
        "iteration": record.get("iteration"),
        "time since its last start": None if seconds is None else f"{seconds / 60:.1f} minutes",
        "versions": ", ".join(f"{n} {versions[n]}" for n in order if n in versions) or None,
    }
    lines = "".join(
        f'<tr><th class="text">{name}</th><td class="text" style="white-space: normal; '
        f'overflow-wrap: anywhere">{escape(value)}</td></tr>'
        for name, value in facts.items()
        if value is not None
    )
    head = f"<h3>{escape(run.name)}</h3>" if several else ""
    config = (
        "<details><summary>Resolved configuration</summary>"
        f"<pre>{escape(run.config)}</pre></details>"
        if run.config
        else note("The configuration was not recorded.")
    )
    lacks = "".join(note(sentence) for sentence in run.missing)
    return f"<div>{head}<table>{lines}</table>{config}{lacks}</div>"
