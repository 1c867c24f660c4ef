"""Figures of class frequency, AP by frequency group and learned rates, as picture files.

Drawn by vl-convert from Vega-Lite specifications, as those of the report's page are.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from balms_seg.class_statistics.frequency_groups import GROUP_COLORS
from balms_seg.report.charts import CLASS_IMAGES, POWERS, WHOLE, Spec, field, place_of
from balms_seg.requirements import require
from balms_seg.wording import counted

_GROUP_COLORS = tuple("#{:02x}{:02x}{:02x}".format(*color) for color in GROUP_COLORS)
_TASK_COLORS = {"bbox": "#9db4c0", "segm": "#2f6f8f"}
_TASK_NAMES = {"bbox": "boxes", "segm": "masks"}
_INK, _FAINT = "#333333", "#e4e4e4"
_FLOOR = 0.7  # below one image, so that a class with one image has a visible bar
_MOST_NAMES = 100  # of classes on an axis
# last letter of the metric -> its group
_LVIS_GROUPS = {"r": "rare", "c": "common", "f": "frequent"}
_STYLE = {
    "view": {"stroke": None},
    "axis": {"labelColor": _INK, "titleColor": _INK, "titleFontWeight": "normal"},
    "axisX": {"grid": False, "domainColor": "#999999", "tickColor": "#999999"},
    "axisY": {"gridColor": _FAINT, "domain": False, "ticks": False},
    "title": {"anchor": "start", "color": _INK, "fontWeight": "normal"},
    "legend": {"title": None, "labelLimit": 400},
}


def save_figure(spec: Spec, path: str | Path) -> None:
    """Draw a Vega-Lite specification on white, at twice its size.

    Args:
        spec: without a style, which is that of all figures.
        path: where to write; .png, .svg or .pdf.

    Raises:
        ModuleNotFoundError: vl-convert is not installed.
        ValueError: the suffix is another one.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"Expected a figure's name to end in .png, .svg or .pdf, but got {path}.")
    vl_convert = require("vl_convert", "Drawing figures")
    spec = {"background": "white", "padding": 8, "config": _STYLE, **spec}
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".svg":
        path.write_text(vl_convert.vegalite_to_svg(spec), encoding="utf-8")
    elif suffix == ".pdf":
        path.write_bytes(vl_convert.vegalite_to_pdf(spec))
    else:
        drawn = Image.open(io.BytesIO(vl_convert.vegalite_to_png(spec, scale=2)))
        drawn.convert("RGB").save(path, optimize=True)  # a quarter of the size or less


def class_frequency(statistics: Mapping[str, Any]) -> Spec:
    """The images of each class by name, most frequent first, coloured by frequency group.

    Of more than 100 classes every so many-th has its name below its bar.

    Args:
        statistics: `ClassStatistics.to_dict()`.
    """
    counts = np.asarray(statistics["image_counts"])
    group_ids, groups = np.asarray(statistics["group_ids"]), statistics["group_names"]
    order = np.argsort(-counts, kind="stable")
    sizes = np.bincount(group_ids, minlength=len(groups)).tolist()
    labels = [f"{name}: {counted(size, 'class')}" for name, size in zip(groups, sizes, strict=True)]
    colors = dict(zip(reversed(labels), reversed(_GROUP_COLORS[: len(groups)]), strict=True))
    num_empty = int((counts == 0).sum())
    half = 0.5 if len(counts) > 150 else 0.41
    top = max(int(counts.max(initial=0)), 2) * 1.6
    bars = [
        {
            "left": rank - half,
            "right": rank + half,
            "floor": _FLOOR,
            "images": int(counts[k]),
            "group": labels[group_ids[k]],
        }
        for rank, k in enumerate(order.tolist(), start=1)
        if counts[k]
    ]
    if num_empty:
        colors[empty := f"without an image: {num_empty}"] = "#dddddd"
        right = len(counts) + 0.5
        bars.append(
            {"left": right - num_empty, "right": right, "floor": _FLOOR, "images": top}
            | {"group": empty}
        )
    named = np.unique(np.linspace(0, len(counts) - 1, min(len(counts), _MOST_NAMES)).astype(int))
    names = {int(i) + 1: str(statistics["class_names"][order[i]]) for i in named}
    axis = {
        "values": list(names),
        "labelExpr": f"({json.dumps(names)})[datum.value]",
        "labelAngle": -90,
        "labelOverlap": False,
        "labelLimit": 150,
        "ticks": False,
    }
    x_scale = {"domain": [0.5, len(counts) + 0.5], "nice": False}
    y_scale = {"type": "log", "domain": [_FLOOR, top], "nice": False}
    color = {"domain": list(colors), "range": list(colors.values())}
    return {
        "width": max(600, 13 * min(len(counts), _MOST_NAMES)),
        "height": 300,
        "title": f"{counted(len(counts), 'class')} in "
        f"{counted(statistics['num_images'], 'image', ',')} with annotations",
        "data": {"values": bars},
        "mark": "rect",
        "encoding": {
            "x": field(
                "left", "quantitative", "classes, most frequent first", scale=x_scale, axis=axis
            ),
            "x2": {"field": "right"},
            "y": field("images", "quantitative", "training images", scale=y_scale, axis=POWERS),
            "y2": {"field": "floor"},
            "color": field("group", "nominal", scale=color, legend={"orient": "top-right"}),
        },
    }


def ap_by_group(
    metrics: Mapping[str, Mapping[str, float | None]],
    *,
    group_sizes: Mapping[str, Mapping[str, int]] | None = None,
) -> Spec:
    """AP overall and by frequency group, for boxes and masks side by side.

    Args:
        metrics: of one data set, as results.json has them: "bbox" and "segm" to "AP", "APr", "APc"
            and "APf" in percent; None, NaN or absent where a group is empty.
        group_sizes: group name to {"classes": how many}, as in results.json; shown if given.

    Raises:
        ValueError: there is neither a "bbox" nor a "segm" entry.
    """
    tasks = [task for task in _TASK_NAMES if task in metrics]
    if not tasks:
        raise ValueError(
            f"Expected metrics of 'bbox' or 'segm', but got {sorted(metrics)}; evaluate first."
        )
    places = {"AP": "all classes"} | {f"AP{letter}": name for letter, name in _LVIS_GROUPS.items()}
    rows = []
    for task in tasks:
        for metric, place in places.items():
            value = metrics[task].get(metric)
            known = value is not None and not math.isnan(value)
            rows.append(
                {
                    "task": _TASK_NAMES[task],
                    "place": _place_label(place, group_sizes or {}),
                    "AP": value if known else 0,
                    "text": f"{value:.1f}" if known else "n/a",
                }
            )
    order = list(dict.fromkeys(row["place"] for row in rows))
    names = [_TASK_NAMES[task] for task in tasks]
    colors = {"domain": names, "range": [_TASK_COLORS[task] for task in tasks]}
    axis = {"labelAngle": 0, "labelExpr": "split(datum.label, '|')", "ticks": False}
    return {
        "width": 480,
        "height": 240,
        "title": "AP by frequency of the class in training",
        "data": {"values": rows},
        "encoding": {
            "x": field("place", "nominal", sort=order, axis=axis),
            "xOffset": {"field": "task", "sort": names},
            "y": field("AP", "quantitative", "AP (%)"),
        },
        "layer": [
            {
                "mark": "bar",
                "encoding": {
                    "color": field("task", "nominal", scale=colors, legend={"orient": "top"})
                },
            },
            {
                "mark": {"type": "text", "baseline": "bottom", "dy": -2, "color": _INK},
                "encoding": {"text": {"field": "text"}},
            },
        ],
    }


def meta_rates(rates: str | Path) -> Spec:
    """What the meta step learned: each class against its frequency, and groups over time.

    The left panel has each class's last rate (or loss weight) over its training images, with a
    hollow mark where it started; the right one the mean of each frequency group at each recorded
    iteration, within the range that 80% of its classes are in.

    Args:
        rates: meta_rates.csv of a run: class_id, name, group, training_images, training_instances,
            iteration, value; one line a class and recorded iteration.

    Raises:
        FileNotFoundError: there is no such csv.
        ValueError: the csv is empty.
    """
    with open(rates, newline="", encoding="utf-8") as file:
        rows = [
            {
                "group": line["group"],
                "iteration": int(line["iteration"]),
                "value": float(line["value"]),
                "images": place_of(float(line["training_images"])),
            }
            for line in csv.DictReader(file)
        ]
    if not rows:
        raise ValueError(f"Expected learned rates in {rates}, but it has none; train first.")
    first, last = (end(row["iteration"] for row in rows) for end in (min, max))
    groups = sorted(
        {row["group"] for row in rows},
        key=lambda name: np.median([row["images"] for row in rows if row["group"] == name]),
    )
    scale = {"domain": groups, "range": list(_GROUP_COLORS[: len(groups)])}
    color = field("group", "nominal", scale=scale, legend={"orient": "right"})
    value = field("value", "quantitative", "learned rate or weight", scale={"zero": False})
    images = field("images", "quantitative", "training images of the class", **CLASS_IMAGES)
    point: Spec = {"type": "point", "size": 28}
    at_ends: dict[str, Spec] = {
        f"datum.iteration == {first}": {"filled": False, "opacity": 0.45},
        f"datum.iteration == {last}": {"filled": True, "opacity": 0.85},
    }
    by_class = {
        "width": 380,
        "height": 240,
        "title": "Classes: start (hollow) and end",
        "encoding": {"x": images, "y": value, "color": color},
        "layer": [
            {"transform": [{"filter": when}], "mark": point | how} for when, how in at_ends.items()
        ],
    }
    time = field("iteration", "quantitative", "iteration", axis=WHOLE)
    over_time = {
        "width": 380,
        "height": 240,
        "title": "Mean of each group, and 80% of its classes",
        "data": {"values": _course(rows)},
        "encoding": {"x": time, "color": color},
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.15},
                "encoding": {"y": {**value, "field": "low"}, "y2": {"field": "high"}},
            },
            {"mark": "line", "encoding": {"y": {**value, "field": "mean"}}},
        ],
    }
    return {
        "data": {"values": rows},
        "hconcat": [by_class, over_time],
        "resolve": {"scale": {"y": "shared"}},
    }


def _course(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and the 10th and 90th percentile of each group at each recorded iteration."""
    values: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        values.setdefault((row["group"], row["iteration"]), []).append(row["value"])
    found = []
    for (group, iteration), own in sorted(values.items()):
        low, high = np.percentile(own, [10, 90]).tolist()
        mean = float(np.mean(own))
        found.append(
            {"group": group, "iteration": iteration, "mean": mean, "low": low, "high": high}
        )
    return found


def _place_label(name: str, sizes: Mapping[str, Mapping[str, int]]) -> str:
    """A group with its number of classes; the bar stands for a new line."""
    if name not in sizes:
        return name
    return f"{name}|{counted(sizes[name]['classes'], 'class')}"
