"""The figures as Vega-Lite specifications: plain dicts, drawn by the page.

A colour written `var(--name)` is that of the page's style sheet, light or dark. Every function
returns None where there is nothing to show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from balms_seg.class_statistics import CLASSIFICATION_GROUPS
from balms_seg.report.findings import GROUPS, METRIC_OF_GROUP
from balms_seg.report.run_files import IMAGE_TASK, TASK_NAMES, Run

Spec = dict[str, Any]

GROUP_COLORS = {
    group: f"var(--{GROUPS[i]})"
    for groups in (GROUPS, CLASSIFICATION_GROUPS)
    for i, group in enumerate(groups)
}
_TOP_LEGEND: dict[str, Any] = {"orient": "top", "title": None}
_LONG_NAME = 14  # characters, of which two do not fit side by side on a telephone
POWERS = {"values": [10**power for power in range(7)], "format": ",d"}
# An axis of numbers that have no fractions; where they are few, Vega puts ticks between them.
WHOLE = {"labelExpr": "datum.value % 1 ? '' : format(datum.value, ',d')"}
_NO_IMAGES = 0.3  # place of 0 on a logarithmic scale, amid the decade below 1
# An encoding of the training images of classes, some of which may have none.
CLASS_IMAGES: dict[str, Any] = {
    "scale": {"type": "log"},
    "axis": {
        "values": [_NO_IMAGES, *POWERS["values"]],
        "labelExpr": "datum.value < 1 ? '0' : format(datum.value, ',d')",
    },
}


def place_of(num_images: float) -> float:
    """Where a class with so many training images stands in an encoding of `CLASS_IMAGES`."""
    return max(num_images, _NO_IMAGES)


def spec(values: Sequence[Mapping[str, Any]], **parts: Any) -> Spec:
    """A figure as wide as its place on the page."""
    return {"width": "container", "data": {"values": list(values)}, **parts}


def field(name: str, kind: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    """An encoding of one column of the values."""
    return {"field": name, "type": kind, "title": title, **more}


def run_color(runs: Sequence[Run]) -> dict[str, Any]:
    """Colour by run; no legend for a single one."""
    names = [run.name for run in runs]
    colors = [f"var(--run-{i % 6 + 1})" for i in range(len(names))]
    legend = {**_TOP_LEGEND, "labelLimit": 300}
    if max(map(len, names)) > _LONG_NAME:
        legend["columns"] = 1
    scale = {"domain": names, "range": colors}
    return field("run", "nominal", scale=scale, legend=legend if len(names) > 1 else None)


def group_color(groups: Sequence[str], **parts: Any) -> dict[str, Any]:
    """Colour by frequency group, with a legend unless told otherwise."""
    scale = {"domain": list(groups), "range": [GROUP_COLORS[group] for group in groups]}
    return field("group", "nominal", **{"scale": scale, "legend": _TOP_LEGEND, **parts})


def bars_height(rows: Sequence[Mapping[str, Any]], runs: Sequence[Run]) -> int:
    """Height in pixels of horizontal bars by group and run.

    Not Vega-Lite's own step, which logs a warning beside a width that follows the page.
    """
    return len({row["group"] for row in rows}) * (34 if len(runs) == 1 else 8 + 22 * len(runs))


def ap_by_group(
    runs: Sequence[Run], task: str, intervals: Sequence[Mapping[str, tuple[float, float]]]
) -> Spec | None:
    """AP overall and by group, with 95 % intervals over images where they are known.

    Args:
        runs: side by side.
        task: "segm" or "bbox".
        intervals: per run, metric name to percent; empty where unknown.
    """
    rows = []
    for run, known in zip(runs, intervals, strict=True):
        for group, metric in {"all": "AP", **METRIC_OF_GROUP}.items():
            value = run.metrics.get(task, {}).get(metric, math.nan)
            if math.isnan(value):
                continue
            low, high = known.get(metric, (math.nan, math.nan))
            row = {"run": run.name, "group": group, "AP": round(value, 1)}
            if not math.isnan(low):
                row |= {"low": round(low, 1), "high": round(high, 1)}
            rows.append(row)
    return group_bars(runs, rows, "AP", f"AP of {TASK_NAMES[task]} (%)")


def group_bars(
    runs: Sequence[Run], rows: Sequence[Mapping[str, Any]], metric: str, title: str
) -> Spec | None:
    """Bars by frequency group and run.

    Args:
        runs: side by side.
        rows: with run, group ("all" or one of the runs' groups), the metric, and low and high
            where an interval is known.
        metric: name of the column.
        title: of the axis.
    """
    if not rows:
        return None
    groups = ["all", *runs[0].groups]
    y = field("group", "nominal", sort=groups, axis={"labelFontSize": 13})
    order = {"sort": [run.name for run in runs], "scale": {"paddingInner": 0.2}}
    offset = {"yOffset": {"field": "run", **order}}
    known = [GROUP_COLORS[group] for group in runs[0].groups]
    colors = {"domain": groups, "range": ["var(--unknown)", *known]}
    color = field("group", "nominal", scale=colors, legend=None)
    shared = {"y": y, "color": color}
    if len(runs) > 1:
        shared |= {"color": run_color(runs), **offset}
    tooltip = [field(name, "nominal", name) for name in ("run", "group", metric, "low", "high")]
    x = field(metric, "quantitative", title, scale={"zero": True})
    # A band that is only a part of its step is not centred on it, and the interval's line is.
    bar_height = {"band": 0.8 if len(runs) == 1 else 1}
    bars = {"mark": {"type": "bar", "height": bar_height, "opacity": 0.85}}
    ends = {"x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}}
    text = {"type": "text", "align": "left", "dx": 5, "baseline": "middle", "color": "var(--ink)"}
    place = {"calculate": f"isValid(datum.high) ? datum.high : datum['{metric}']", "as": "end"}
    return spec(
        rows,
        height=bars_height(rows, runs),
        transform=[place],
        layer=[
            {**bars, "encoding": {**shared, "x": x, "tooltip": tooltip}},
            {
                "mark": {"type": "rule", "strokeWidth": 2, "color": "var(--ink)"},
                "transform": [{"filter": "isValid(datum.low)"}],
                "encoding": {
                    **shared,
                    "color": {"value": "var(--ink)"},
                    **ends,
                    "tooltip": tooltip,
                },
            },
            {
                "mark": text,
                "encoding": {
                    **{**shared, "color": {"value": "var(--ink)"}},
                    "x": {"field": "end", "type": "quantitative"},
                    "text": {"field": metric, "type": "quantitative", "format": ".1f"},
                },
            },
        ],
    )


def frequency_and_metric(
    runs: Sequence[Run],
    class_rows: Sequence[Sequence[Mapping[str, Any]]],
    metric: str = "AP",
) -> Spec | None:
    """Training images of each class as bars, most frequent first, with a metric as points.

    Args:
        runs: side by side.
        class_rows: per run, a row a class with name, group, train_image_count and the metric.
        metric: its name.
    """
    bars, points = [], []
    for run, own in zip(runs, class_rows, strict=True):
        counts = [row.get("train_image_count") for row in own]
        if not counts or any(count is None for count in counts):
            continue
        order = np.argsort(-np.array(counts, dtype=float), kind="stable")
        for rank, i in enumerate(order.tolist(), start=1):
            row = own[i]
            entry = {"rank": rank, "name": row["name"], "group": row["group"] or "unknown"}
            entry |= {"images": row["train_image_count"], "run": run.name}
            if run is runs[0]:
                bars.append({**entry, "top": max(entry["images"], 0.7)})
            if not math.isnan(row[metric]):
                points.append({**entry, metric: round(row[metric], 1)})
    if not points or not bars:
        return None
    group = group_color(runs[0].groups)
    x = field(
        "rank",
        "quantitative",
        "classes, most frequent first",
        scale={"domain": [0.5, len(bars) + 0.5], "nice": False},
        axis={"grid": False, "tickMinStep": 1},
    )
    many = len(runs) > 1
    tooltip = [field(n, "nominal", n) for n in ("name", "group", "images", metric, "run")]
    images = {"type": "log", "domainMin": 0.6}
    return spec(
        points,
        height=280,
        resolve={"scale": {"y": "independent", "color": "independent"}},
        layer=[
            {
                "data": {"values": bars},
                "mark": {"type": "bar", "opacity": 0.28, "width": {"band": 1}, "binSpacing": 0},
                "transform": [
                    {"calculate": "datum.rank - 0.45", "as": "left"},
                    {"calculate": "datum.rank + 0.45", "as": "right"},
                    {"calculate": "0.6", "as": "floor"},
                ],
                "encoding": {
                    "x": {**x, "field": "left"},
                    "x2": {"field": "right"},
                    "y": field(
                        "top", "quantitative", "training images (bars)", scale=images, axis=POWERS
                    ),
                    "y2": {"field": "floor"},
                    "color": group,
                    "tooltip": tooltip[:3],
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 42, "opacity": 0.95},
                "encoding": {
                    "x": x,
                    "y": field(
                        metric,
                        "quantitative",
                        f"{metric} (points, %)",
                        axis={"orient": "right", "grid": False},
                    ),
                    "color": run_color(runs) if many else {**group, "legend": None},
                    "tooltip": tooltip,
                },
            },
        ],
    )


def reliability(runs: Sequence[Run], task: str, group: str) -> Spec | None:
    """Share of right detections against their score, for one group ("all" for all classes).

    Of images where the task is their classification.
    """
    noun = "images" if task == IMAGE_TASK else "detections"
    rows = []
    for run in runs:
        known = run.tasks[task].reliability if task in run.tasks else None
        if not known or group not in known:
            continue
        own = known[group]
        keys = ("mean_scores", "precisions", "counts")
        for score, precision, count in zip(*(own[key] for key in keys), strict=True):
            if count:
                rows.append({"run": run.name, "score": score, "right": precision, noun: count})
    if not rows:
        return None
    tooltip = [
        field("run", "nominal", "run"),
        field("score", "quantitative", "mean score", format=".2r"),
        field("right", "quantitative", "share right", format=".2f"),
        field(noun, "quantitative", noun, format=","),
    ]
    unit = {"scale": {"domain": [0, 1]}, "axis": {"tickCount": 5}}
    axes = {
        "x": field("score", "quantitative", "score", **unit),
        "y": field("right", "quantitative", f"share of right {noun}", **unit),
    }
    return spec(
        rows,
        height=190,
        layer=[
            {
                "data": {"values": [{"score": 0, "right": 0}, {"score": 1, "right": 1}]},
                "mark": {"type": "line", "strokeDash": [4, 4], "color": "var(--faint)"},
                "encoding": axes,
            },
            {
                "mark": {"type": "line", "point": {"size": 45}, "strokeWidth": 2},
                "encoding": {**axes, "color": run_color(runs), "tooltip": tooltip},
            },
        ],
    )
