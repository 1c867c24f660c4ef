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
from balms_seg.requirements import require


def main(arguments: list[str] | None = None) -> None:
    """Read the tables, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="+", type=Path, help="json files of run_cifar_table.py")
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
    figure_module = require("matplotlib.figure", "Drawing a table")
    rows = [differences(table, column) for table in tables]
    height = 1.2 * len(tables) + 0.27 * sum(map(len, rows))
    figure = figure_module.Figure(figsize=(9, height), layout="constrained")
    panels = figure.subplots(
        len(tables), 1, squeeze=False, height_ratios=[len(own) + 2 for own in rows]
    )
    for panel, table, own in zip(panels[:, 0], tables, rows, strict=True):
        panel.axvline(0, color="0.7", linewidth=1)
        for place, (_, mean, low, high) in enumerate(own):
            color = "#b3261e" if high < 0 else "#1b6e3a" if low > 0 else "0.45"
            panel.plot([low, high], [place, place], color=color, linewidth=2)
            face = "white" if low <= 0 <= high else color
            panel.plot(mean, place, "o", color=color, markerfacecolor=face)
        panel.set_yticks(range(len(own)), [name for name, *_ in own])
        panel.set_ylim(len(own) - 0.4, -0.6)
        panel.set_title(textwrap.fill(table["title"], width=60), fontsize=10)
        panel.set_xlabel(f"difference of {column} in points; 95 % interval over paired seeds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
