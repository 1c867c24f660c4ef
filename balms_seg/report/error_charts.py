"""Figures of what becomes of the objects; see `charts` for how figures are written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from balms_seg.report.charts import Spec, bars_height, field, spec
from balms_seg.report.findings import GROUPS, ClassFinding, group_fates
from balms_seg.report.object_fates import FATES, ObjectFates
from balms_seg.report.run_files import Run

_FATE_COLORS = {fate: f"var(--{fate.replace(' ', '-')})" for fate in FATES}
_MAX_CONFUSED_CLASSES = 24


def fates_by_group(runs: Sequence[Run], findings: Sequence[Sequence[ClassFinding]]) -> Spec | None:
    """What became of the objects of each group, as shares."""
    rows = [
        {
            "run": run.name,
            "group": group,
            "fate": fate,
            "order": FATES.index(fate),
            "objects": count,
            "share": count / sum(counts.values()),
        }
        for run, own in zip(runs, findings, strict=True)
        for group, counts in group_fates(own).items()
        for fate, count in counts.items()
    ]
    if not rows:
        return None
    several = {"yOffset": {"field": "run", "sort": [run.name for run in runs]}}
    tooltip = [
        *(field(name, "nominal", name) for name in ("run", "group", "fate", "objects")),
        field("share", "quantitative", "share", format=".1%"),
    ]
    return spec(
        rows,
        height=bars_height(rows, runs),
        mark={"type": "bar", "height": {"band": 0.85}},
        encoding={
            "y": field("group", "nominal", sort=["all", *GROUPS], axis={"labelFontSize": 13}),
            **(several if len(runs) > 1 else {}),
            "x": field(
                "share",
                "quantitative",
                "share of the objects",
                stack="normalize",
                axis={"format": "%"},
            ),
            "color": field(
                "fate",
                "nominal",
                scale={"domain": list(FATES), "range": list(_FATE_COLORS.values())},
                legend={"orient": "top", "title": None, "columns": 2},
            ),
            "order": {"field": "order"},
            "tooltip": tooltip,
        },
    )


def tail_confusion(findings: Sequence[ClassFinding], fates: ObjectFates) -> Spec | None:
    """What the objects of the rarest classes are taken for: the classes with most mistakes."""
    names = [str(finding.row["name"]) for finding in findings]
    present = {f.row["group"] for f in findings if sum(f.fates.values())}
    tail = next((group for group in GROUPS if group in present), None)
    if tail is None:
        return None
    totals = np.array([max(sum(f.fates.values()), 1) for f in findings])
    wrong = np.array([sum(f.fates.values()) - f.fates.get("right", 0) for f in findings])
    members = [
        i for i, f in enumerate(findings) if f.row["group"] == tail and sum(f.fates.values())
    ]
    shown = sorted(members, key=lambda i: (-wrong[i] / totals[i], names[i]))[:_MAX_CONFUSED_CLASSES]
    confusion = fates.confusion(len(findings))[shown]
    columns = [
        j for j in np.argsort(-confusion.sum(axis=0), kind="stable") if confusion[:, j].any()
    ]
    columns = columns[:_MAX_CONFUSED_CLASSES]
    rows = []
    for line, i in zip(confusion, shown, strict=True):
        entries = {names[j]: int(line[j]) for j in columns}
        entries["other classes"] = int(line.sum()) - sum(entries.values())
        entries["nothing"] = int(totals[i] - line.sum())
        rows += [
            {
                "class": names[i],
                "predicted": predicted,
                "objects": count,
                "share": count / int(totals[i]),
                "right": predicted == names[i],
            }
            for predicted, count in entries.items()
            if count
        ]
    order = [names[i] for i in shown]
    column_order = [*order, *(names[j] for j in columns if names[j] not in order)]
    tooltip = [
        field("class", "nominal", f"{tail} class"),
        field("predicted", "nominal", "taken for"),
        field("objects", "quantitative", "objects"),
        field("share", "quantitative", "share", format=".0%"),
    ]
    x = field(
        "predicted",
        "nominal",
        "what the best-scored detection on the object says",
        sort=[*column_order, "other classes", "nothing"],
        axis={"labelAngle": -50, "labelLimit": 120, "orient": "top"},
    )
    y = field("class", "nominal", f"{tail} class", sort=order, axis={"labelLimit": 130})
    return spec(
        rows,
        height=22 * len(shown),
        encoding={"x": x, "y": y, "tooltip": tooltip},
        layer=[
            {
                "mark": {"type": "rect", "cornerRadius": 2},
                "encoding": {
                    "color": {
                        "condition": {"test": "datum.right", "value": "var(--right)"},
                        "value": "var(--confused)",
                    },
                    "opacity": {
                        "field": "share",
                        "type": "quantitative",
                        "scale": {"domain": [0, 1], "range": [0.12, 1]},
                        "legend": None,
                    },
                },
            },
            {
                "mark": {"type": "text", "fontSize": 11},
                "encoding": {"text": {"field": "objects"}, "color": {"value": "var(--ink)"}},
            },
        ],
    )
