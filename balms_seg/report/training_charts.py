"""Figures of how a run was trained; see `charts` for how figures are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from balms_seg.report.charts import (
    CLASS_IMAGES,
    WHOLE,
    Spec,
    field,
    group_color,
    place_of,
    run_color,
    spec,
)
from balms_seg.report.run_files import Run

_MAX_CURVE_POINTS = 400


def learning_curve(runs: Sequence[Run], key: str) -> Spec | None:
    """One entry of metrics.json by iteration."""
    rows = []
    for run in runs:
        points = [line for line in run.curves if _is_number(line.get(key))]
        step = max(1, math.ceil(len(points) / _MAX_CURVE_POINTS))
        rows += [
            {"run": run.name, "iteration": line["iteration"], "value": float(f"{line[key]:.4g}")}
            for line in points[::step]
        ]
    if not rows:
        return None
    return spec(
        rows,
        height=170,
        mark={"type": "line", "strokeWidth": 1.6, "interpolate": "linear", "tooltip": True},
        encoding={
            "x": field(
                "iteration",
                "quantitative",
                "iteration",
                axis={"grid": False, "tickCount": 4, **WHOLE},
            ),
            "y": field("value", "quantitative", None, scale={"zero": False}, axis={"tickCount": 4}),
            "color": run_color(runs),
            "tooltip": [field(n, "nominal", n) for n in ("run", "iteration", "value")],
        },
    )


def curve_keys(runs: Sequence[Run]) -> list[str]:
    """Entries of metrics.json worth a curve: the total loss, its parts, and the learning rate."""
    keys = {key for run in runs for line in run.curves for key in line}
    losses = sorted(key for key in keys if key.startswith(("loss", "meta_loss")))
    return [key for key in ("total_loss", *losses, "lr") if key in keys]


def learned_rates(run: Run) -> Spec | None:
    """Last learned rate or weight of each class against its training images."""
    latest: dict[str, dict[str, str]] = {}
    for row in run.learned_rates:
        known = latest.get(row["class_id"])
        if known is None or int(row["iteration"]) >= int(known["iteration"]):
            latest[row["class_id"]] = row
    rows = [
        {
            "name": row["name"],
            "group": row["group"],
            "images": float(row["training_images"]),
            "place": place_of(float(row["training_images"])),
            "value": float(row["value"]),
        }
        for row in latest.values()
    ]
    if not rows:
        return None
    return spec(
        rows,
        height=240,
        mark={"type": "point", "filled": True, "size": 55},
        encoding={
            "x": field("place", "quantitative", "training images", **CLASS_IMAGES),
            "y": field("value", "quantitative", "last learned value", scale={"zero": False}),
            "color": group_color(run.groups),
            "tooltip": [field(n, "nominal", n) for n in ("name", "group", "images", "value")],
        },
    )


def learned_rates_by_iteration(run: Run) -> Spec | None:
    """Mean learned rate or weight of each group by iteration."""
    values: dict[tuple[int, str], list[float]] = {}
    for row in run.learned_rates:
        key = int(row["iteration"]), row["group"]
        values.setdefault(key, []).append(float(row["value"]))
    if not values:
        return None
    rows = [
        {"iteration": iteration, "group": group, "value": round(sum(own) / len(own), 6)}
        for (iteration, group), own in sorted(values.items())
    ]
    return spec(
        rows,
        height=240,
        mark={"type": "line", "point": True, "strokeWidth": 2},
        encoding={
            "x": field("iteration", "quantitative", "iteration", axis={"grid": False, **WHOLE}),
            "y": field("value", "quantitative", "mean of the group", scale={"zero": False}),
            "color": group_color(run.groups),
            "tooltip": [field(n, "nominal", n) for n in ("iteration", "group", "value")],
        },
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
