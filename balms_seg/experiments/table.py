"""A table of runs: json with every run, csv with a line for each, markdown for people."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from balms_seg.annotations.json_file import read_json
from balms_seg.csv_files import row_writer
from balms_seg.durable_files import write_whole
from balms_seg.evaluation.lvis.lvis_ap import TELLING_AP
from balms_seg.evaluation.output.next_to_nothing import is_next_to_nothing
from balms_seg.experiments.records import Record, paired_difference, summarise

Table = dict[str, Any]

_HEADINGS = {"time_seconds": "seconds", "processor_seconds": "processor seconds"}


def build_table(
    records: Sequence[Record],
    columns: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    **about: Any,
) -> Table:
    """Summarise the records in the columns that all of them have.

    Args:
        records: of the finished runs, at least one.
        columns: in order.
        pairs: left and right row of the differences.
        **about: title, command, hardware and what else the json is to say.
    """
    columns = [c for c in columns if all(record.get(c) is not None for record in records)]
    return {
        **about,
        "commits": sorted({str(record["commit"]) for record in records}),
        "rows": summarise(records, columns),
        "paired_differences": [paired_difference(records, columns, *pair) for pair in pairs],
        "runs": list(records),
    }


def _finds_next_to_nothing(table: Table) -> bool:
    """Whether the AP of every run is so low that the table compares nothing; not of accuracies."""
    columns = [column for column in _columns(table) if column.endswith("/AP")]
    best = [row[column]["max"] for row in table["rows"] for column in columns]
    return is_next_to_nothing(best)


def published_runs(path: Path, **about: Any) -> dict[tuple[str, int], Record]:
    """The runs in a table's json, by row and seed.

    Args:
        path: of the json; where there is none, there are no runs.
        **about: what the json has to say of itself; else its runs are of something else, and none.
    """
    content = read_json(path) if path.is_file() else {}
    if not content or any(content.get(name) != value for name, value in about.items()):
        return {}
    return {(record["row"], record["seed"]): record for record in content["runs"]}


def write_table(
    table: Table, path: Path, *, note: str, cited: tuple[str, Mapping[str, Any]] | None = None
) -> str:
    """Write PATH.json, PATH.csv and PATH.md.

    Args:
        table: of `build_table`.
        path: without an ending.
        note: what the rows are of, in words.
        cited: heading and, by row, figures of others, to stand beside the table's own.

    Returns:
        The markdown.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if _finds_next_to_nothing(table):
        note += (
            f" Nothing was learnt: no AP reaches {100 * TELLING_AP:g}, so rows and differences "
            "compare nothing. Train longer (SOLVER.MAX_ITER), or from weights (MODEL.WEIGHTS)."
        )
    text = _markdown(table, note, cited)
    contents = {"json": json.dumps(table, indent=1) + "\n", "csv": _csv(table), "md": text}
    for ending, content in contents.items():
        _write(path.with_name(f"{path.name}.{ending}"), content)
    return text


def _csv(table: Table) -> str:
    """One line a run: row, seed and the columns."""
    lines = io.StringIO()
    columns = ["row", "seed", *_columns(table)]
    row_writer(lines).writerows(
        [columns, *([run.get(name) for name in columns] for run in table["runs"])]
    )
    return lines.getvalue()


def _write(path: Path, text: str) -> None:
    write_whole(path, lambda file: file.write(text.encode()))


def _columns(table: Table) -> list[str]:
    return [name for name in table["rows"][0] if name not in ("row", "seeds")]


def _markdown(table: Table, note: str, cited: tuple[str, Mapping[str, Any]] | None) -> str:
    columns = _columns(table)
    heading, figures = cited or ("", {})
    more = [heading] if cited else []
    lines = [
        f"### {table['title']}",
        "",
        f"{note} Mean over seeds ± standard deviation (least to greatest). Differences are over "
        "paired seeds: mean ± standard error (Student's 95 % interval). "
        f"Command: `{table['command']}`. Commit {', '.join(table['commits'])}. Hardware: "
        f"{table['hardware']}.",
        "",
        _line("row", "seeds", *(_HEADINGS.get(column, column) for column in columns), *more),
        "|---|" + "---|" * (1 + len(columns) + len(more)),
    ]
    for row in table["rows"]:
        own = figures.get(row["row"])
        cells = [_spread(row[column]) for column in columns]
        cells += ["-" if own is None else f"{own:g}"] * len(more)
        lines.append(_line(row["row"], row["seeds"], *cells))
    for pair in table["paired_differences"]:
        if columns[0] in pair:
            cells = [_difference(pair[column]) for column in columns] + ["-"] * len(more)
            lines.append(_line(f"{pair['left']} - {pair['right']}", pair["seeds"], *cells))
    return "\n".join(lines) + "\n"


def _line(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _spread(value: Mapping[str, Any]) -> str:
    if value["standard_deviation"] is None:
        return f"{value['mean']:.1f}"
    return (
        f"{value['mean']:.1f} ± {value['standard_deviation']:.1f} "
        f"({value['min']:.1f} to {value['max']:.1f})"
    )


def _difference(value: Mapping[str, Any]) -> str:
    low, high = value["interval"]
    return f"{value['mean']:+.1f} ± {value['standard_error']:.1f} ({low:+.1f} to {high:+.1f})"
