#!/usr/bin/env python
r"""Draw the paired differences of tables: a dot and its 95 % interval for each pair.

The dot is filled, and coloured by its sign, where the interval leaves out 0.

python tools/benchmarks/table_figure.py docs/results/cifar_features_rho200.json \
    --output docs/images/features.png
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from balms_seg.annotations.json_file import read_json
from balms_seg.report.charts import Spec, field
from balms_seg.report.figures import save_figure

# of an interval on one side of 0, or on both
_SIGN_COLORS = {"below": "#b3261e", "above": "#1b6e3a", "either": "#737373"}


def main(arguments: list[str] | None = None) -> None:
    """Read the tables, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="+", type=Path, help="json files of compare-methods")
    parser.add_argument("--column", default="top1", help="default: %(default)s")
    parser.add_argument("--output", type=Path, required=True, metavar="PNG")
    args = parser.parse_args(arguments)
    draw([read_json(path) for path in args.tables], args.column, args.output)


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


def _sign(low: float, high: float) -> str:
    return "below" if high < 0 else "above" if low > 0 else "either"


if __name__ == "__main__":
    main()
