#!/usr/bin/env python
r"""Train the tables of CIFAR-LT: several methods and seeds, resumable, several runs side by side.

`balms-seg compare-methods` trains methods x seeds of any one configuration. These tables are made
by the same code, and have second stages, configurations and images of their own.

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
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cifar_tables import TABLES, Run, Table
from feature_tables import FEATURE_TABLES, FeatureTable, data_overrides
from forked_runs import prepare_forks, start_fork

from balms_seg.data.images.image_lists import read_image_records
from balms_seg.experiments.cost import read_cost
from balms_seg.experiments.machine import describe_hardware, num_cores, places, visible_gpus
from balms_seg.experiments.processes import start_process
from balms_seg.experiments.records import IMAGE_COLUMNS, read_record
from balms_seg.experiments.runs import is_finished, train_all
from balms_seg.experiments.table import build_table, published_runs, write_table
from balms_seg.model_zoo import get_config_file

ALL_TABLES: dict[str, Table | FeatureTable] = {**TABLES, **FEATURE_TABLES}
ROOT = Path(__file__).resolve().parents[2]
COLUMNS = (*IMAGE_COLUMNS, "processor_seconds")
_MEMORY_OF_A_RUN_MB = 4096
_RESULTS = "docs/results"


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, write the tables."""
    args = parse_arguments(arguments)
    output, results = Path(args.output).resolve(), Path(args.results)
    missing = missing_runs(args, results)
    of_features = set(args.table) & set(FEATURE_TABLES)
    if of_features:
        for file in args.features.resolve().glob("cifar10_*.npz"):  # read once: forks share it
            read_image_records(str(file), "")
        prepare_forks()

    def command(run: Run, output: Path) -> list[str]:
        data = data_overrides(run, args.features.resolve()) if run.data else []
        return train_command(run, output, data, gpus=0 if args.cpu else 1)

    gpus = [] if args.cpu else gpus_here()
    failed = train_all(
        missing,
        output,
        command,
        places=places(args.jobs or runs_side_by_side(gpus), gpus),  # all GPUs in turn
        minutes=args.minutes,
        # Those of features take seconds, which is less than a process takes to start.
        start=start_fork if of_features else start_process,
        folder=ROOT,
    )
    for name in args.table:
        collect(name, runs_of(name, args.iterations), output, results)
    if failed:
        sys.exit(f"run_cifar_table: failed: {', '.join(failed)}; their logs are in {output}.")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, checked; `table` names the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--table", action="append", choices=ALL_TABLES, help="default: all of images"
    )
    parser.add_argument("--cpu", action="store_true", help="the tables for a CPU")
    parser.add_argument("--output", default="output/cifar_tables", help="folder of the runs")
    parser.add_argument("--results", default=_RESULTS, help="folder of the tables")
    parser.add_argument(
        "--features", type=Path, metavar="DIR", help="of cifar10_train.npz and cifar10_test.npz"
    )
    parser.add_argument("--jobs", type=int, help="runs side by side; default: as many as fit")
    parser.add_argument("--minutes", type=float, help="end after so many, to be resumed")
    parser.add_argument("--seeds", type=int, help="only the first so many")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="train only these")
    parser.add_argument("--iterations", type=int, help="of every run, to see that it works")
    args = parser.parse_args(arguments)
    names = args.table or [name for name, table in TABLES.items() if table.cpu == args.cpu]
    if any(ALL_TABLES[name].cpu != args.cpu for name in names):
        parser.error(f"give --cpu with tables for a CPU and only with these; got {names}")
    if args.iterations is not None and args.results == _RESULTS:
        parser.error("give --iterations with --results, for its tables are not to be published")
    known = {row for name in names for row in ALL_TABLES[name].rows}
    if not known.issuperset(args.rows or []):
        parser.error(f"expected --rows out of {', '.join(sorted(known))}, but got {args.rows}")
    of_features = set(names) & set(FEATURE_TABLES)
    if of_features and args.features is None:
        parser.error(f"give --features with {', '.join(of_features)}; balms-seg features makes it")
    args.table = names
    return args


def missing_runs(args: argparse.Namespace, results: Path) -> list[Run]:
    """The runs that are asked for and are in no table yet; each once."""
    missing: dict[str, Run] = {}
    for name in args.table:
        published = published_runs(results / f"cifar_{name}.json")
        for run in runs_of(name, args.iterations):
            wanted = args.seeds is None or run.seed < args.seeds
            wanted = wanted and (args.rows is None or run.row in args.rows)
            if wanted and (run.row, run.seed) not in published:
                missing.setdefault(run.name, run)
    return list(missing.values())


def runs_of(table: str, iterations: int | None) -> list[Run]:
    """All runs of a table, shortened where that is asked for."""
    runs = ALL_TABLES[table].runs()
    return runs if iterations is None else [shortened(run, iterations) for run in runs]


def shortened(run: Run, iterations: int) -> Run:
    """A run and those before it with fewer iterations, and without a warm-up."""
    length = ("SOLVER.WARMUP_ITERS", "0", "SOLVER.MAX_ITER", str(iterations))
    return replace(
        run,
        overrides=(*run.overrides, *length),
        after=run.after and shortened(run.after, iterations),
    )


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


def gpus_here() -> list[str]:
    """All that this process may use; the tables of a GPU need one."""
    gpus = visible_gpus()
    if not gpus:
        sys.exit("run_cifar_table: expected a GPU, but torch finds none; give --cpu.")
    return gpus


def runs_side_by_side(gpus: Sequence[str]) -> int:
    """One a core; on GPUs no more than the fullest one's memory holds, and at least one on each."""
    if not gpus:
        return num_cores()
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    query.append(f"--id={','.join(gpus)}")
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
        free_mb = min(map(int, found.stdout.split()))
    except (OSError, subprocess.SubprocessError, ValueError):
        sys.exit("run_cifar_table: nvidia-smi tells no GPU's free memory; give --jobs N.")
    fitting = len(gpus) * (free_mb // _MEMORY_OF_A_RUN_MB)
    return max(len(gpus), min(num_cores(), fitting))


def collect(name: str, runs: Sequence[Run], output: Path, results: Path) -> None:
    """Write the table of the finished runs; rows without a run are left out."""
    table, path = ALL_TABLES[name], results / f"cifar_{name}"
    published = published_runs(path.with_suffix(".json"))
    records = []
    for run in runs:
        if (run.row, run.seed) in published:
            records.append(published[run.row, run.seed])
        elif is_finished(output / run.name):
            records.append(_record(run, output))
    if not records:
        print(f"{name}: no finished run")
        return
    subset = table.subset()
    content = build_table(
        records,
        COLUMNS,
        table.pairs,
        title=table.title,
        command="python tools/benchmarks/run_cifar_table.py"
        f"{' --cpu' * table.cpu} --table {name}"
        f"{' --features output/cifar10_features' * (name in FEATURE_TABLES)}",
        hardware=describe_hardware(num_gpus=0 if table.cpu else 1),
        subset=subset,
    )
    note = (
        f"{'Held-out training images' if table.held_out else 'cifar10_test'}, percent. Training "
        f"images: {subset['kind']} subset, rho {subset['rho']}, seed {subset['seed']}. Processor "
        "seconds are those of all stages."
    )
    cited = None
    if table.published:
        figures = {row: recipe.published for row, recipe in table.rows.items()}
        cited = (f"top-1 in the {table.published}", figures)
    print(write_table(content, path, note=note, cited=cited))


def _record(run: Run, output: Path) -> dict[str, Any]:
    record = {**read_record(output / run.name, run.row, run.seed), "config": run.config}
    seconds = _processor_seconds(run, output)
    return record | {"processor_seconds": seconds}


def _processor_seconds(run: Run, output: Path) -> float | None:
    """Of a run and of the stages before it, where they were measured."""
    cost = read_cost(output / run.name)
    before = _processor_seconds(run.after, output) if run.after else 0.0
    return None if cost is None or before is None else before + cost.processor_seconds


if __name__ == "__main__":
    main()
