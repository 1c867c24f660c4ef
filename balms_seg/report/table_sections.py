"""The parts of the report that are tables: chosen thresholds, suspicious labels."""

from __future__ import annotations

from collections.abc import Sequence

from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS
from balms_seg.evaluation.lvis.lvis_ap import TELLING_AP
from balms_seg.evaluation.output.result_table import NOT_AVAILABLE, format_score
from balms_seg.report import sections
from balms_seg.report.gallery import GalleryEntry
from balms_seg.report.run_files import Run
from balms_seg.report.suspicious_labels import (
    CSV_FILE,
    KINDS,
    SuspiciousLabel,
)

NO_LABELS = (
    f"with an AP below {100 * TELLING_AP:g} a model contradicts annotations at random, so that no "
    "list of suspicious labels is written."
)
_NUM_LABELS = 15  # of each kind
_THRESHOLD_COLUMNS = {
    "name": "class",
    "frequency": "group",
    "threshold": "threshold",
    "precision_unseen": "precision",
    "recall_unseen": "recall",
    "objects": "objects",
    "kept": "detections kept",
    "kept_right": "of them right",
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
            "objects leans on its group. Precision and recall are of images without a say in the "
            "threshold, the detections kept are of all. Only thresholds chosen on images that were "
            "held out hold elsewhere."
        ),
        *parts,
    )


def label_section(
    runs: Sequence[Run], labels: Sequence[SuspiciousLabel], entries: Sequence[GalleryEntry]
) -> str:
    """What the model, or every run, says otherwise than the annotations."""
    if not labels:
        return ""
    shown = [
        one
        for kind in KINDS
        for one in [label for label in labels if label.kind == kind][:_NUM_LABELS]
    ]
    rows = [
        [
            *(one.file_name, one.kind, _shown_id(one)),
            *(one.annotated_as or NOT_AVAILABLE, one.predicted_as or NOT_AVAILABLE),
            *map(format_score, (one.score, one.iou, one.class_recall)),
        ]
        for one in shown
    ]
    counts = ", ".join(f"{sum(label.kind == kind for label in labels):,} {kind}" for kind in KINDS)
    who = "the model" if len(runs) == 1 else "every run"
    return sections.section(
        "labels",
        "Labels to look at",
        sections.note(
            f"Where {who} contradicts the annotations most: objects taken for another class, sure "
            "detections where nothing is annotated, and objects that nothing is found on though "
            "half of their class or more are found. Each is a mistake of the model, or of the "
            f"annotations. In all {counts}; the list, with boxes, is {CSV_FILE} beside this "
            "page."
        ),
        sections.gallery(runs, entries),
        _table(
            [
                *("image", "what", "annotation id", "annotated as", "predicted as"),
                *("score", "IoU", "recall of class"),
            ],
            rows,
            num_text=5,
        ),
    )


def _shown_id(label: SuspiciousLabel) -> str:
    return NOT_AVAILABLE if label.annotation_id is None else str(label.annotation_id)


def no_label_section() -> str:
    """The same part, of a model whose contradictions mean nothing."""
    return sections.section(
        "labels", "Labels to look at", sections.note(f"Nothing can be said yet: {NO_LABELS}")
    )


def _cell(row: dict[str, str], column: str) -> str:
    """A number with its interval, where the csv has one."""
    value = row.get(column, NOT_AVAILABLE)
    if column == "frequency":
        return FREQUENCY_GROUPS.get(value, value)
    if f"{column}_low" not in row or value == NOT_AVAILABLE:
        return value
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    if NOT_AVAILABLE in (low, high):
        return format_score(float(value))
    return "{} ({} to {})".format(*(format_score(float(one)) for one in (value, low, high)))


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
