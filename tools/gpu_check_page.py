"""The page of `gpu_check.py`: what ran, where, and what it gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark_timing import format_table
from gpu_check_place import Place

from balms_seg.report.charts import Spec, field
from balms_seg.report.figures import save_figure

Record = Mapping[str, Any]
_FIGURE = "throughput.svg"
_MOST_PASSED = 5  # tests that are named though nothing is to be said of them


def write_page(records: Sequence[Record], place: Place, output: Path) -> None:
    """Write page.md, with a figure of the throughput where it was measured.

    Args:
        records: of the parts so far.
        place: where they ran.
        output: folder to write to.
    """
    lines = ["# What ran on this machine", ""]
    if not place.is_measured:
        lines += ["Every part in small: no time and no memory is told.", ""]
    lines += [format_table([_told(record, place) for record in records]), ""]
    lines += _figure(records, output) if place.is_measured else []
    for record in records:
        if record["rows"]:
            lines += _section(record)
    (output / "page.md").write_text("\n".join(lines))


def _told(record: Record, place: Place) -> dict[str, Any]:
    told = {"part": record["title"], "outcome": record["outcome"]}
    return told | ({"seconds": record.get("wall_seconds", "-")} if place.is_measured else {})


def _section(record: Record) -> list[str]:
    rows = record["rows"]
    where = f"{record['hardware']}, torch {record['torch']}, commit {record['commit']}"
    lines = [f"## {record['title']}", "", f"`{record['command']}`; {where}.", ""]
    if "outcome" in rows[0]:
        counts = {kind: [r["outcome"] for r in rows].count(kind) for kind in _outcomes(rows)}
        lines += [", ".join(f"{number} {kind}" for kind, number in counts.items()), ""]
        odd = [row for row in rows if row["outcome"] not in ("passed", "skipped")]
        rows = odd or rows[:_MOST_PASSED]
    return [*lines, format_table(rows), ""]


def _outcomes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["outcome"] for row in rows))


def _figure(records: Sequence[Record], output: Path) -> list[str]:
    rows = [row for r in records for row in r["rows"] if row.get("images_per_second")]
    if not rows:
        return []
    try:
        save_figure(throughput_figure(rows), output / _FIGURE)
    except ModuleNotFoundError as error:
        return [f"No figure: {error}", ""]
    return [f"![Images a second by batch, precision and scheme]({_FIGURE})", ""]


def throughput_figure(rows: Sequence[Mapping[str, Any]]) -> Spec:
    """Images a second over the batch, a line a scheme, a panel a precision."""
    kept = ("scheme", "precision", "batch", "images_per_second")
    return {
        "data": {"values": [{key: row[key] for key in kept} for row in rows]},
        "facet": {"column": {"field": "precision", "title": None}},
        "spec": {
            "width": 220,
            "height": 220,
            "mark": {"type": "line", "point": True},
            "encoding": {
                "x": field("batch", "quantitative", "images in a batch"),
                "y": field("images_per_second", "quantitative", "images a second"),
                "color": field("scheme", "nominal"),
            },
        },
    }
