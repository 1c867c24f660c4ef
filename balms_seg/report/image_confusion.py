"""What an image classifier takes for what, as a section of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from balms_seg.report import sections
from balms_seg.report.charts import Spec, field, spec
from balms_seg.report.figure_sections import PageContent
from balms_seg.report.run_files import IMAGE_TASK, Run

_MAX_CONFUSED_CLASSES = 24
_CONFUSION_MIN_WIDTH_PX = 560


def confusion_section(runs: Sequence[Run], content: PageContent) -> str:
    """What the images of the worst classes are taken for, one figure a run."""
    figures = [
        content.place(
            f"confusion-{i}",
            confusion(run),
            run.name if len(runs) > 1 else "",
            min_width_px=_CONFUSION_MIN_WIDTH_PX,
        )
        for i, run in enumerate(runs)
    ]
    if not any(figures):
        return ""
    text = f"Rows are labels, at most {_MAX_CONFUSED_CLASSES}, those with the lowest accuracy."
    return sections.section("errors", "What is taken for what", sections.note(text), *figures)


def confusion(run: Run) -> Spec | None:
    """Images by label and predicted class, of the classes of lowest accuracy."""
    found = run.tasks[IMAGE_TASK]
    counted, rows = found.confusion, found.classes or []
    known = [row for row in rows if not math.isnan(row["accuracy"])]
    if counted is None or not known:
        return None
    worst = sorted(known, key=lambda row: row["accuracy"])[:_MAX_CONFUSED_CLASSES]
    worst.sort(key=lambda row: row["class_id"])
    images = {row["name"]: row["val_images"] for row in worst}
    order = list(images)
    sums: dict[tuple[str, str], int] = {}
    for entry in counted:
        if entry["label"] in images:
            said = entry["predicted"] if entry["predicted"] in images else "other classes"
            key = entry["label"], said
            sums[key] = sums.get(key, 0) + int(entry["images"])
    values = [
        {
            "label": label,
            "predicted": said,
            "images": count,
            "share": count / images[label],
            "right": said == label,
        }
        for (label, said), count in sums.items()
    ]
    tooltip = [
        field("label", "nominal", "label"),
        field("predicted", "nominal", "taken for"),
        field("images", "quantitative", "images"),
        field("share", "quantitative", "share", format=".1%"),
    ]
    axis = {"labelAngle": -50, "labelLimit": 120, "orient": "top"}
    colour = {
        "condition": {"test": "datum.right", "value": "var(--right)"},
        "value": "var(--confused)",
    }
    opacity = {"domain": [0, 1], "range": [0.08, 1]}
    return spec(
        values,
        height=24 * len(order),
        encoding={
            "x": field("predicted", "nominal", "taken for", sort=[*order, "other classes"])
            | {"axis": axis},
            "y": field("label", "nominal", "label", sort=order, axis={"labelLimit": 130}),
            "tooltip": tooltip,
        },
        layer=[
            {
                "mark": {"type": "rect", "cornerRadius": 2},
                "encoding": {
                    "color": colour,
                    "opacity": field("share", "quantitative", scale=opacity, legend=None),
                },
            },
            {
                "mark": {"type": "text", "fontSize": 11},
                "encoding": {"text": {"field": "images"}, "color": {"value": "var(--ink)"}},
            },
        ],
    )
