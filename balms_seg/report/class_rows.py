"""The table of classes as data, which the page's script sorts and filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from balms_seg.report.findings import OUTSCORE_GLOSS, ClassFinding
from balms_seg.report.object_fates import FATES
from balms_seg.report.run_files import TASK_NAMES, Run

_WHY = f"what costs most AP. {OUTSCORE_GLOSS}"


def class_rows(
    runs: Sequence[Run], findings: Sequence[Sequence[ClassFinding]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Columns and rows of the table of classes; what depends on the run is a list over runs."""
    if not all(findings) or len({len(own) for own in findings}) != 1:
        return [], []
    several = len(runs) > 1
    title = TASK_NAMES[runs[0].main_task]
    columns: list[dict[str, Any]] = [
        {
            **{"key": "name", "title": "class", "text": True, "style": "name"},
            "hint": "name of the class",
        },
        *(
            {
                "key": f"ap{i}",
                "title": f"AP {run.name}" if several else "AP",
                "digits": 1,
                "style": "bar",
                "sorted": i == 0,
                "hint": f"AP of {title}, percent",
            }
            for i, run in enumerate(runs)
        ),
        {"key": "group", "title": "group", "text": True, "hint": "frequency group"},
        {"key": "images", "title": "train images", "hint": "training images with the class"},
        {"key": "why", "title": "why", "text": True, "style": "why", "hint": _WHY},
        {"key": "ap50", "title": "AP50", "digits": 1, "hint": f"AP50 of {title}, percent"},
        {"key": "objects", "title": "objects", "hint": "annotated objects in the evaluation set"},
        *(
            {"key": fate, "title": fate, "hint": f"objects that are {fate}"}
            for fate in FATES
            if any(finding.fates for finding in findings[0])
        ),
        {
            "key": "alarms",
            "title": "false alarms",
            "hint": "wrong detections that outscore half of the right ones; n/a where none is "
            f"right. {OUTSCORE_GLOSS}",
        },
        {
            **{"key": "taken", "title": "taken for", "text": True, "style": "name"},
            "hint": "the commonest mistake",
        },
    ]
    for column in columns:
        column["perRun"] = column["key"] in {"ap50", *FATES, "alarms", "taken", "why"}
    rows = []
    for own in zip(*findings, strict=True):
        row = own[0].row
        entry: dict[str, Any] = {
            "name": str(row["name"]),
            "group": row["group"],
            "images": row.get("train_image_count"),
            "objects": row["val_instances"],
            "ap50": [_known(one.row["AP50"]) for one in own],
            "alarms": [one.false_alarms for one in own],
            "taken": [one.taken_for[0] if one.taken_for else None for one in own],
            "why": ["; ".join(one.reasons()) or None for one in own],
        }
        entry |= {f"ap{i}": _known(one.ap) for i, one in enumerate(own)}
        entry |= {fate: [one.fates.get(fate) for one in own] for fate in FATES}
        rows.append(entry)
    return columns, rows


def _known(value: float) -> float | None:
    """As every part of the page shows it: the script would round what is rounded to 2 again."""
    return None if math.isnan(value) else round(value, 1)
