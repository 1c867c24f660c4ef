#!/usr/bin/env python
"""Train the toy benchmark's tables: several methods and seeds, resumable, several runs at once.

Runs that the table's json in `--results` already holds are kept and not repeated, so a table can be
finished on another machine; each run keeps its own commit there. Delete the json to start afresh.

Example: python tools/benchmarks/run_toy_benchmark.py --table methods --jobs 2
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from table_records import hardware, paired_difference, summarise, write_csv
from table_runs import train_all
from toy_benchmark_tables import TABLES, Run, Table

from balms_seg.annotations.json_file import read_json
from balms_seg.evaluation.output.results_file import read_results
from balms_seg.glyphs.glyph_dataset import PRESETS, make_glyph_dataset
from balms_seg.model_zoo import get_config_file

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "datasets" / "glyphs_benchmark"
GROUPS = ("AP", "APr", "APc", "APf")
TASKS = ("segm", "bbox")


def main() -> None:
    """Make the data, run what is missing, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="append", choices=TABLES, help="default: all")
    parser.add_argument("--output", default="output/toy_benchmark", help="folder of the runs")
    parser.add_argument("--results", default="docs/results", help="folder of the tables")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--minutes", type=float, help="start no run after so many minutes")
    args = parser.parse_args()
    make_glyph_dataset(DATA, PRESETS["benchmark"])
    names = args.table or list(TABLES)
    missing = {}
    for name in names:
        published = _published(name, TABLES[name], Path(args.results))
        runs = TABLES[name].runs()
        missing |= {run.name: run for run in runs if (run.row, run.seed) not in published}
    train_all(  # short runs first: an interrupted table has whole rows
        sorted(missing.values(), key=lambda run: run.num_iters),
        Path(args.output),
        _command,
        jobs=args.jobs,
        minutes=args.minutes,
    )
    for name in names:
        write_table(name, TABLES[name], Path(args.output), Path(args.results))


def _command(run: Run, output: Path) -> list[str]:
    more = []
    if run.after:
        more = ["MODEL.WEIGHTS", str((output / run.after.name / "model_final.pth").resolve())]
    return [
        sys.executable,
        str(ROOT / "tools" / "train_net.py"),
        "--config-file",
        get_config_file(f"toy/{run.config}.yaml"),
        "--num-gpus",
        "0",
        "--resume",
        *run.overrides,
        *more,
        "SEED",
        str(run.seed),
        "SOLVER.MAX_ITER",
        str(run.num_iters),
        "OUTPUT_DIR",
        str((output / run.name).resolve()),
    ]


def _published(name: str, table: Table, results: Path) -> dict[tuple[str, int], dict]:
    """The runs in the table's json, by row and seed; none where its schedule was another one."""
    path = results / f"toy_{name}.json"
    if not path.is_file():
        return {}
    content = read_json(path)
    if (content["iterations"], content["split"]) != (table.num_iters, table.split):
        return {}
    return {(record["row"], record["seed"]): record for record in content["runs"]}


def write_table(name: str, table: Table, output: Path, results: Path) -> None:
    """Collect finished runs into json, csv and markdown; rows without a run are left out."""
    published = _published(name, table, results)
    records = []
    for run in table.runs():
        path = output / run.name / "results.json"
        if (run.row, run.seed) in published:
            records.append(published[run.row, run.seed])
        elif path.is_file():
            record = read_results(path)
            metrics = record["metrics"][table.split]
            values = {f"{task}/{key}": metrics[task][key] for task in TASKS for key in GROUPS}
            source = {key: record[key] for key in ("commit", "time_seconds", "versions")}
            records.append({"row": run.row, "seed": run.seed, **values, **source})
    if not records:
        print(f"{name}: no finished run")
        return
    columns = [f"{task}/{key}" for task in TASKS for key in GROUPS]
    summary = summarise(records, columns)
    differences = [paired_difference(records, columns, *pair) for pair in table.pairs]
    content = {
        "title": table.title,
        "split": table.split,
        "iterations": table.num_iters,
        "command": f"python tools/benchmarks/run_toy_benchmark.py --table {name}",
        "commits": sorted({str(record["commit"]) for record in records}),
        "hardware": hardware(),
        "rows": summary,
        "paired_differences": differences,
        "runs": records,
    }
    results.mkdir(parents=True, exist_ok=True)
    (results / f"toy_{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    write_csv(results / f"toy_{name}.csv", records, columns)
    text = _markdown(content, columns)
    (results / f"toy_{name}.md").write_text(text)
    print(text)


def _markdown(content: dict, columns: list[str]) -> str:
    lines = [
        f"### {content['title']}",
        "",
        f"{content['iterations']} iterations, {content['split']}, mean over seeds (min to max), of "
        "differences over paired seeds with Student's 95 % interval. "
        f"Command: `{content['command']}`. Commit {', '.join(content['commits'])}. "
        f"Hardware: {content['hardware']}.",
        "",
        "| row | seeds | " + " | ".join(columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for row in content["rows"]:
        cells = [
            f"{row[c]['mean']:.1f} ({row[c]['min']:.1f} to {row[c]['max']:.1f})" for c in columns
        ]
        lines.append(f"| {row['row']} | {row['seeds']} | " + " | ".join(cells) + " |")
    for pair in content["paired_differences"]:
        if columns[0] in pair:
            cells = [
                f"{pair[c]['mean']:+.1f} ({low:+.1f} to {high:+.1f})"
                for c in columns
                for low, high in [pair[c]["interval"]]
            ]
            name = f"{pair['left']} - {pair['right']} (95 % interval)"
            lines.append(f"| {name} | {pair['seeds']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
