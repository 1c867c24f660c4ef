#!/usr/bin/env python
r"""Draw tables: the paired differences of each, or a bar for some rows by frequency of the class.

A difference is a dot with its 95 % interval over paired seeds; the dot is filled, and coloured by
its sign, where the interval leaves out 0. A bar is a row's mean, with the interval of that mean.

python tools/benchmarks/table_figure.py docs/results/cifar_features_rho200.json \
    --output docs/images/features.png
python tools/benchmarks/table_figure.py docs/results/toy_methods.json \
    --rows softmax "balanced_softmax, geometric mean 30 (the default)" \
    --names softmax balanced_softmax --output docs/images/ap_by_group.png
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from balms_seg.annotations.json_file import read_json
from balms_seg.evaluation.uncertainty.seed_differences import mean_difference
from balms_seg.report.charts import Spec, field
from balms_seg.report.figures import save_figure

# of an interval on one side of 0, or on both
_SIGN_COLORS = {"below": "#b3261e", "above": "#1b6e3a", "either": "#737373"}

_PLACES = {"AP": "all classes", "APr": "rare", "APc": "common", "APf": "frequent"}
_ROW_COLORS = ("#9db4c0", "#2f6f8f", "#c9a66b", "#7a5c99")


def main(arguments: list[str] | None = None) -> None:
    """Read the tables, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="+", type=Path, help="json files of compare-methods")
    parser.add_argument("--column", default="top1", help="default: %(default)s")
    parser.add_argument("--rows", nargs="+", help="rows of the tables to draw as bars")
    parser.add_argument(
        "--without", nargs="+", default=[], help="rows whose differences to leave out"
    )
    parser.add_argument("--names", nargs="+", help="what the figure calls them")
    parser.add_argument("--output", type=Path, required=True, metavar="PNG")
    args = parser.parse_args(arguments)
    tables = [read_json(path) for path in args.tables]
    if args.rows:
        names = dict(zip(args.rows, args.names or args.rows, strict=True))
        panels = [bars(table, names, task) for table in tables for task in ("segm", "bbox")]
        save_figure({"hconcat": panels, "spacing": 30}, args.output)
    else:
        pairs = [pair for table in tables for pair in table["paired_differences"]]
        compared = {pair[side] for pair in pairs for side in ("left", "right")}
        if unknown := {*args.without} - compared:
            parser.error(f"--without: no table compares a row {', '.join(sorted(unknown))}")
        for table in tables:
            pairs = table["paired_differences"]
            table["paired_differences"] = [
                pair for pair in pairs if not {pair["left"], pair["right"]} & {*args.without}
            ]
        draw(tables, args.column, args.output)


def differences(table: dict[str, Any], column: str) -> list[tuple[str, float, float, float]]:
    """Name, mean and interval of each pair that has one."""
    return [
        (f"{pair['left']} - {pair['right']}", pair[column]["mean"], *pair[column]["interval"])
        for pair in table["paired_differences"]
        if column in pair
    ]


def draw(tables: list[dict[str, Any]], column: str, path: Path) -> None:
    """One panel a table, the pairs from top to bottom."""
    save_figure({"vconcat": [panel(table, column) for table in tables]}, path)


def panel(table: dict[str, Any], column: str) -> Spec:
    """The pairs of one table as a Vega-Lite specification."""
    rows = [
        {"pair": name, "mean": mean, "low": low, "high": high, "sign": _sign(low, high)}
        for name, mean, low, high in differences(table, column)
    ]
    colors = {"domain": list(_SIGN_COLORS), "range": list(_SIGN_COLORS.values())}
    title = f"difference of {column} in points; 95 % interval over paired seeds"
    return {
        "width": 480,
        "height": {"step": 20},
        "title": textwrap.wrap(table["title"], width=90),
        "data": {"values": rows},
        "encoding": {
            "y": field("pair", "nominal", sort=None, axis={"labelLimit": 500}),
            "color": field("sign", "nominal", scale=colors, legend=None),
        },
        "layer": [
            {
                "data": {"values": [{}]},
                "mark": {"type": "rule", "color": "#b0b0b0"},
                "encoding": {"x": {"datum": 0}, "y": None, "color": None},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {
                    "x": field("low", "quantitative", title, axis={"grid": False}),
                    "x2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "point", "size": 45, "opacity": 1},
                "encoding": {
                    "x": {"field": "mean", "type": "quantitative"},
                    "fill": {
                        "condition": {"test": "datum.sign == 'either'", "value": "white"},
                        **field("sign", "nominal", scale=colors, legend=None),
                    },
                },
            },
        ],
    }


def bars(table: dict[str, Any], names: dict[str, str], task: str) -> Spec:
    """Mean AP of rows by frequency group, with intervals, as a Vega-Lite specification.

    Args:
        table: of two seeds or more.
        names: rows of the table, and what the figure calls them.
        task: "segm" or "bbox".
    """
    rows = []
    for row, name in names.items():
        for metric, place in _PLACES.items():
            one = mean_difference([r[f"{task}/{metric}"] for r in table["runs"] if r["row"] == row])
            known = {"mean": one.mean, "low": one.low, "high": one.high, "text": f"{one.mean:.1f}"}
            rows.append({"row": name, "place": place, **known})
    colors = {"domain": list(names.values()), "range": _ROW_COLORS[: len(names)]}
    title = f"{'mask' if task == 'segm' else 'box'} AP (%)"
    return {
        "width": 330,
        "height": 220,
        "data": {"values": rows},
        "encoding": {
            "x": field("place", "nominal", sort=list(_PLACES.values()), axis={"labelAngle": 0}),
            "xOffset": {"field": "row", "sort": list(names.values())},
        },
        "layer": [
            {
                "mark": "bar",
                "encoding": {
                    "y": field("mean", "quantitative", title),
                    "color": field("row", "nominal", scale=colors, legend={"orient": "top"}),
                },
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.5, "color": "#222222"},
                "encoding": {"y": field("low", "quantitative", title), "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "text", "baseline": "bottom", "dy": -3, "color": "#222222"},
                "encoding": {
                    "y": {"field": "high", "type": "quantitative"},
                    "text": {"field": "text"},
                },
            },
        ],
    }


def _sign(low: float, high: float) -> str:
    return "below" if high < 0 else "above" if low > 0 else "either"


if __name__ == "__main__":
    main()
