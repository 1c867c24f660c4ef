"""The parts of the report that are tables: chosen thresholds, suspicious labels."""

from __future__ import annotations

from collections.abc import Sequence

from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS
from balms_seg.evaluation.output.result_table import NOT_AVAILABLE
from balms_seg.report import sections
from balms_seg.report.gallery import GalleryEntry
from balms_seg.report.run_files import Run
from balms_seg.report.suspicious_labels import CSV_FILE, SuspiciousLabel

_NUM_LABELS = 30
_THRESHOLD_COLUMNS = {
    "name": "class",
    "frequency": "group",
    "threshold": "threshold",
    "precision": "precision",
    "recall": "recall",
    "objects": "objects",
    "kept": "detections kept",
}


def threshold_section(runs: Sequence[Run]) -> str:
    """What `balms-seg thresholds` chose, where it did."""
    parts = []
    for run in runs:
        if not run.thresholds:
            continue
        rows = [[_cell(row, column) for column in _THRESHOLD_COLUMNS] for row in run.thresholds]
        head = f"<h3>{sections.escape(run.name)}</h3>" if len(runs) > 1 else ""
        parts.append(head + _table(list(_THRESHOLD_COLUMNS.values()), rows, num_text=2))
    if not parts:
        return ""
    return sections.section(
        "thresholds",
        "Scores to cut at",
        sections.note(
            "From balms-seg thresholds; in brackets 95 % intervals over images. A class with few "
            "objects leans on its group. Only those chosen on images that were held out hold "
            "elsewhere."
        ),
        *parts,
    )


def label_section(
    runs: Sequence[Run], labels: Sequence[SuspiciousLabel], entries: Sequence[GalleryEntry]
) -> str:
    """Annotations that a detection of another class speaks against."""
    if not labels:
        return ""
    rows = [
        [one.file_name, one.annotated_as, one.predicted_as, f"{one.score:.2f}", f"{one.iou:.2f}"]
        for one in labels[:_NUM_LABELS]
    ]
    which = "the model is" if len(runs) == 1 else "all runs are"
    return sections.section(
        "labels",
        "Labels to look at",
        sections.note(
            f"Objects of which {which} surest that they are of another class: a mistake of the "
            f"model, or of the annotation. {len(labels):,} in all, in {CSV_FILE} beside this page."
        ),
        sections.gallery(runs, entries),
        _table(["image", "annotated as", "predicted as", "score", "IoU"], rows, num_text=3),
    )


def _cell(row: dict[str, str], column: str) -> str:
    """A number with its interval, where the csv has one."""
    value = row.get(column, NOT_AVAILABLE)
    if column == "frequency":
        return FREQUENCY_GROUPS.get(value, value)
    if f"{column}_low" not in row or value == NOT_AVAILABLE:
        return value
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    interval = "" if NOT_AVAILABLE in (low, high) else f" ({float(low):.2f} to {float(high):.2f})"
    return f"{float(value):.2f}{interval}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, num_text: int) -> str:
    """An html table, the first columns of which hold text."""
    kinds = [' class="text"' if i < num_text else "" for i in range(len(head))]
    titles = "".join(f"<th{kind}>{name}</th>" for kind, name in zip(kinds, head, strict=True))
    lines = "".join(
        "<tr>"
        + "".join(
            f"<td{kind}>{sections.escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll table"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )
