#!/usr/bin/env python
r"""Train the tables of CIFAR-LT: several methods and seeds, resumable, several runs side by side.

DETECTRON2_DATASETS=../shared/data python tools/benchmarks/run_cifar_table.py --cpu
DETECTRON2_DATASETS=pack python tools/benchmarks/run_cifar_table.py --minutes 9
python tools/benchmarks/run_cifar_table.py --cpu --table features_rho200 \
    --features output/cifar10_features

Rows that start from a stage one share that of their seed. Runs that the table's json in
`--results` already holds are kept and not repeated; runs that `--minutes` ended go on from their
last checkpoint. On a GPU the pack of `tools/build_subset.py --pack` is all the data it takes.
Tables of frozen features take those that `balms-seg features` wrote.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cifar_tables import TABLES, Run, Table
from feature_tables import FEATURE_TABLES, FeatureTable, data_overrides
from table_records import hardware, paired_difference, summarise, write_csv
from table_runs import PROCESSOR_SECONDS_FILE, ROOT, train_all

from balms_seg.annotations.json_file import read_json
from balms_seg.data.images.image_lists import read_image_records
from balms_seg.evaluation.output.results_file import read_results
from balms_seg.model_zoo import get_config_file

ALL_TABLES: dict[str, Table | FeatureTable] = {**TABLES, **FEATURE_TABLES}
COLUMNS = ("top1", "top1-many", "top1-medium", "top1-few", "ece", "processor_seconds")
_MEMORY_OF_A_RUN_MB = 4096


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--table", action="append", choices=ALL_TABLES, help="default: all of images"
    )
    parser.add_argument("--cpu", action="store_true", help="the tables for a CPU")
    parser.add_argument("--output", default="output/cifar_tables", help="folder of the runs")
    parser.add_argument("--results", default="docs/results", help="folder of the tables")
    parser.add_argument(
        "--features", type=Path, metavar="DIR", help="of cifar10_train.npz and cifar10_test.npz"
    )
    parser.add_argument("--jobs", type=int, help="runs side by side; default: as many as fit")
    parser.add_argument("--minutes", type=float, help="end after so many, to be resumed")
    parser.add_argument("--seeds", type=int, help="only the first so many")
    args = parser.parse_args(arguments)
    names = args.table or [name for name, table in TABLES.items() if table.cpu == args.cpu]
    if any(ALL_TABLES[name].cpu != args.cpu for name in names):
        parser.error(f"give --cpu with tables for a CPU and only with these; got {names}")
    of_features = set(names) & set(FEATURE_TABLES)
    if of_features and args.features is None:
        parser.error(f"give --features with {', '.join(of_features)}; balms-seg features makes it")
    output, results = Path(args.output).resolve(), Path(args.results)
    missing: dict[str, Run] = {}
    for name in names:
        published = _published(name, results)
        for run in ALL_TABLES[name].runs():
            wanted = args.seeds is None or run.seed < args.seeds
            if wanted and (run.row, run.seed) not in published:
                missing.setdefault(run.name, run)

    if of_features:
        for file in args.features.resolve().glob("cifar10_*.npz"):  # read once: forks share it
            read_image_records(str(file), "")

    def command(run: Run, output: Path) -> list[str]:
        data = data_overrides(run, args.features.resolve()) if run.data else []
        return train_command(run, output, data, gpus=0 if args.cpu else 1)

    train_all(
        list(missing.values()),
        output,
        command,
        jobs=args.jobs or runs_side_by_side(cpu=args.cpu),
        minutes=args.minutes,
        interrupt=True,
        forks=bool(of_features),  # seconds each, which is less than a process takes to start
    )
    for name in names:
        write_table(name, ALL_TABLES[name], output, results)


def train_command(run: Run, output: Path, data: Sequence[str] = (), *, gpus: int) -> list[str]:
    """The training of a run, which resumes what an interruption left, or its evaluation."""
    weights = []
    if run.after:
        weights = ["MODEL.WEIGHTS", str(output / run.after.name / "model_final.pth")]
    return [
        sys.executable,
        str(ROOT / "tools" / "train_net.py"),
        "--config-file",
        get_config_file(f"classification/{run.config}"),
        "--num-gpus",
        str(gpus),
        "--eval-only" if run.eval_only else "--resume",
        *data,
        *run.overrides,
        *weights,
        "SEED",
        str(run.seed),
        "OUTPUT_DIR",
        str(output / run.name),
    ]


def runs_side_by_side(*, cpu: bool) -> int:
    """One a core, and on a GPU no more than its memory holds."""
    cores = os.cpu_count() or 1
    if cpu:
        return cores
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
        free_mb = int(found.stdout.split()[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        sys.exit("run_cifar_table: no GPU was found by nvidia-smi; give --cpu, or --jobs N.")
    return max(1, min(cores, free_mb // _MEMORY_OF_A_RUN_MB))


def _published(name: str, results: Path) -> dict[tuple[str, int], dict]:
    path = results / f"cifar_{name}.json"
    if not path.is_file():
        return {}
    return {(record["row"], record["seed"]): record for record in read_json(path)["runs"]}


def write_table(name: str, table: Table | FeatureTable, output: Path, results: Path) -> None:
    """Collect finished runs into json, csv and markdown; rows without a run are left out."""
    published = _published(name, results)
    records = []
    for run in table.runs():
        if (run.row, run.seed) in published:
            records.append(published[run.row, run.seed])
        elif (output / run.name / "results.json").is_file():
            records.append(_record(run, output))
    if not records:
        print(f"{name}: no finished run")
        return
    columns = [c for c in COLUMNS if all(record.get(c) is not None for record in records)]
    content = {
        "title": table.title,
        "command": "python tools/benchmarks/run_cifar_table.py"
        f"{' --cpu' * table.cpu} --table {name}"
        f"{' --features output/cifar10_features' * (name in FEATURE_TABLES)}",
        "commits": sorted({str(record["commit"]) for record in records}),
        "hardware": hardware(gpu=not table.cpu),
        "subset": table.subset(),
        "rows": summarise(records, columns),
        "paired_differences": [paired_difference(records, columns, *pair) for pair in table.pairs],
        "runs": records,
    }
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"cifar_{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    write_csv(path.with_suffix(".csv"), records, columns)
    text = _markdown(content, table, columns)
    path.with_suffix(".md").write_text(text)
    print(text)


def _record(run: Run, output: Path) -> dict[str, Any]:
    results = read_results(output / run.name / "results.json")
    (metrics,) = results["metrics"].values()
    values = {c: v for c in COLUMNS if (v := metrics["classification"].get(c)) == v}
    source = {key: results[key] for key in ("iteration", "commit", "time_seconds", "versions")}
    record = {"row": run.row, "seed": run.seed, "config": run.config, **values, **source}
    seconds = _processor_seconds(run, output)
    return record if seconds is None else {**record, "processor_seconds": seconds}


def _processor_seconds(run: Run, output: Path) -> float | None:
    """Of a run and of the stages before it, where they were measured."""
    file = output / run.name / PROCESSOR_SECONDS_FILE
    if not file.is_file():
        return None
    before = _processor_seconds(run.after, output) if run.after else 0.0
    return None if before is None else before + float(file.read_text())


def _markdown(content: dict[str, Any], table: Table | FeatureTable, columns: list[str]) -> str:
    subset = content["subset"]
    published = [f"top-1 in the {table.published}"] if table.published else []
    lines = [
        f"### {content['title']}",
        "",
        f"{'Held-out training images' if table.held_out else 'cifar10_test'}, percent, mean over "
        "seeds ± standard deviation (least to greatest). Training images: "
        f"{subset['kind']} subset, rho {subset['rho']}, seed {subset['seed']}. Differences "
        "are over paired seeds: mean ± standard error (95 % interval). "
        f"Command: `{content['command']}`. Commit {', '.join(content['commits'])}. Hardware: "
        f"{content['hardware']}.",
        "",
        "| row | seeds | " + " | ".join([*map(_heading, columns), *published]) + " |",
        "|---|---|" + "---|" * (len(columns) + len(published)),
    ]
    for row in content["rows"]:
        cells = [_spread(row[column]) for column in columns]
        if published:
            value = table.rows[row["row"]].published
            cells.append("-" if value is None else f"{value:g}")
        lines.append(f"| {row['row']} | {row['seeds']} | " + " | ".join(cells) + " |")
    for pair in content["paired_differences"]:
        if columns[0] in pair:
            name = f"{pair['left']} - {pair['right']}"
            cells = [_difference(pair[column]) for column in columns]
            cells += ["-"] * len(published)
            lines.append(f"| {name} | {pair['seeds']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _heading(column: str) -> str:
    return "processor s, all stages" if column == "processor_seconds" else column


def _spread(value: dict[str, float | None]) -> str:
    if value["standard_deviation"] is None:
        return f"{value['mean']:.1f}"
    return (
        f"{value['mean']:.1f} ± {value['standard_deviation']:.1f} "
        f"({value['min']:.1f} to {value['max']:.1f})"
    )


def _difference(value: dict[str, Any]) -> str:
    low, high = value["interval"]
    return f"{value['mean']:+.1f} ± {value['standard_error']:.1f} ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    main()
