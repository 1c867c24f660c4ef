#!/usr/bin/env python
"""Train the toy benchmark's tables: several methods and seeds, resumable, several runs at once.

`balms-seg compare-methods` trains methods x seeds of any one configuration. These tables are made
by the same code, and have second stages, lengths and settings of their own.

Runs that the table's json in `--results` already holds are kept and not repeated, so a table can be
finished on another machine; each run keeps its own commit there. Delete the json to start afresh.

The collages are made of CIFAR-10's photographs in DETECTRON2_DATASETS (default: datasets).

Example: python tools/benchmarks/run_toy_benchmark.py --table methods --jobs 2
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from toy_benchmark_tables import TABLES, Run, Table

from balms_seg.annotations.json_file import read_json
from balms_seg.data.images.image_sets import read_cifar
from balms_seg.experiments.machine import describe_hardware, places
from balms_seg.experiments.records import BOX_COLUMNS, read_record
from balms_seg.experiments.runs import is_finished, train_all
from balms_seg.experiments.table import build_table, published_runs, write_table
from balms_seg.glyphs.collages import make_collages
from balms_seg.glyphs.glyph_dataset import PRESETS, make_glyph_dataset
from balms_seg.model_zoo import get_config_file

ROOT = Path(__file__).resolve().parents[2]
GLYPHS = ROOT / "datasets" / "glyphs_benchmark"
COLLAGES = ROOT / "datasets" / "collages_benchmark"
COLUMNS = (*BOX_COLUMNS, "processor_seconds")


def main() -> None:
    """Make the data, run what is missing, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="append", choices=TABLES, help="default: all")
    parser.add_argument("--output", default="output/toy_benchmark", help="folder of the runs")
    parser.add_argument("--results", default="docs/results", help="folder of the tables")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--minutes", type=float, help="end after so many, to be resumed")
    args = parser.parse_args()
    names = args.table or list(TABLES)
    make_data({run.config for name in names for run in TABLES[name].runs()})
    missing = {}
    for name in names:
        published = _published(name, TABLES[name], Path(args.results))
        runs = TABLES[name].runs()
        missing |= {run.name: run for run in runs if (run.row, run.seed) not in published}
    train_all(  # short runs first: an interrupted table has whole rows
        sorted(missing.values(), key=lambda run: run.num_iters),
        Path(args.output),
        _command,
        places=places(args.jobs),
        minutes=args.minutes,
        folder=ROOT,
    )
    for name in names:
        collect(name, TABLES[name], Path(args.output), Path(args.results))


def make_data(configs: set[str]) -> None:
    """Make what the runs of these configurations train on, where it is not there yet."""
    if configs & {"benchmark", "benchmark_classifier"}:
        make_glyph_dataset(GLYPHS, PRESETS["benchmark"])
    if "collages" in configs:
        make_collages(COLLAGES, {"train": read_cifar(10, "train"), "val": read_cifar(10, "test")})


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
    same = (content["iterations"], content["split"]) == (table.num_iters, table.split)
    return published_runs(path) if same else {}


def collect(name: str, table: Table, output: Path, results: Path) -> None:
    """Write the table of the finished runs; rows without a run are left out."""
    published = _published(name, table, results)
    records = []
    for run in table.runs():
        if (run.row, run.seed) in published:
            records.append(published[run.row, run.seed])
        elif is_finished(output / run.name):
            records.append(read_record(output / run.name, run.row, run.seed, table.split))
    if not records:
        print(f"{name}: no finished run")
        return
    content = build_table(
        records,
        COLUMNS,
        table.pairs,
        title=table.title,
        split=table.split,
        iterations=table.num_iters,
        command=f"python tools/benchmarks/run_toy_benchmark.py --table {name}",
        hardware=describe_hardware(),
    )
    note = f"{table.num_iters} iterations, {table.split}, percent."
    print(write_table(content, results / f"toy_{name}", note=note))


if __name__ == "__main__":
    main()
