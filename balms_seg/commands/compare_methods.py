"""Train methods with several seeds on one data set, and say which of them is better.

balms-seg compare-methods --config-file F --methods softmax balanced_softmax --seeds 3
balms-seg compare-methods --config-file F --methods softmax all --seeds 1 SOLVER.MAX_ITER 500
balms-seg compare-methods --config-file F --import my_method --methods softmax mine --seeds 3
balms-seg compare-methods --table tools/benchmarks/tables/toy_zoo.yaml

F is a configuration of `balms-seg train`, of a detector or of an image classifier; only the method,
the seed and the folder differ between the runs. The first method is what the others are compared
with, seed by seed. "all" stands for every method that goes with the data. Settings of a method are
keys of its own, as in MODEL.METHODS.FEDERATED.CLASSES 20, and change no other's runs.

Where rows are to differ in more than the method, in settings, schedule or the stage they start
from, a table's file says what they are; --methods and --seeds then train only some of them.

As many runs as there are GPUs, or else cores, train side by side. The same command goes on after an
interruption: finished runs are kept, others resume. SIGTERM, Ctrl-C and the end of --minutes leave
checkpoints; the exit code is 75 where runs are left to do, 1 where one failed.

The table is in DIR/table.md, table.csv and table.json, or named like its file, and each run in a
folder below DIR. Its intervals cover the choice of the seed; `balms-seg compare` has those of
evaluation images.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from balms_seg.commands.config_keys import add_key_arguments
from balms_seg.commands.imports import add_import_argument
from balms_seg.wording import agreeing, counted, plain_path

if TYPE_CHECKING:
    from balms_seg.experiments.table_plan import TablePlan
    from balms_seg.experiments.train_tables import NamedTable

_SEEDS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is compared, and how much of the machine it takes."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config-file", metavar="F", help="as for balms-seg train")
    what.add_argument(
        "--table", action="append", type=plain_path, metavar="FILE", help="yaml of rows"
    )
    add_import_argument(parser)
    parser.add_argument(
        "--methods", nargs="+", default=[], metavar="NAME", help='names, or "all"; rows of a table'
    )
    parser.add_argument("--seeds", type=_at_least(1), help=f"default: {_SEEDS}, or as a table says")
    parser.add_argument(
        "--output", type=plain_path, default=Path("output/compare_methods"), metavar="DIR"
    )
    parser.add_argument(
        "--results",
        type=plain_path,
        metavar="DIR",
        help="of --table's tables, which are gone on with: no run that they hold is repeated",
    )
    parser.add_argument(
        "--num-gpus",
        type=_at_least(0),
        help="0: the CPU; default: all there are, or as a table says",
    )
    parser.add_argument(
        "--jobs", type=_at_least(1), help="runs side by side; default: one a GPU, or one a core"
    )
    parser.add_argument("--minutes", type=float, help="end after so many, to be gone on with")
    add_key_arguments(parser)


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"expected {least} or more, but got {text}")
        return int(text)

    return number


def run(args: argparse.Namespace) -> None:
    """Check all, train what is not finished, write the tables."""
    from balms_seg.experiments.machine import runs_side_by_side
    from balms_seg.experiments.train_tables import train_runs
    from balms_seg.stop_signals import RESUME_EXIT_CODE

    if args.table:
        tables = _tables_of_files(args)
        gpus = _gpus(args.num_gpus, [table.plan for table in tables])
    else:
        gpus = _gpus(args.num_gpus, [])
        tables = [_table_of_methods(args, len(gpus))]
    memory_mb = max(table.plan.gpu_memory_mb or 0 for table in tables)
    jobs = args.jobs or runs_side_by_side(gpus, memory_mb or None)
    runs = {run.name: run for table in tables for run in table.wanted()}
    left = {run.name: run for table in tables for run in table.missing(args.output)}
    print(
        f"{counted(len(runs), 'run')}, {len(runs) - len(left)} of them finished; {jobs} side by "
        f"side, {'on GPUs' if gpus else 'a CPU core each'}"
    )
    failed = train_runs(
        list(left.values()),
        [table.plan for table in tables],
        args.output,
        num_jobs=jobs,
        gpus=gpus,
        imports=args.imports,
        minutes=args.minutes,
    )
    for table in tables:
        text = table.write(args.output, len(gpus))
        print(text or f"{table.path.name}: no run is finished.")
        if text:
            print(f"It is in {table.path}.md, .csv and .json.")
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {counted(len(runs), 'run')} failed: {', '.join(failed)}. The lines "
            "above say why; the same command tries them again."
        )
    num_left = len({run.name for table in tables for run in table.missing(args.output)})
    if num_left:
        are = agreeing(num_left, "is", "are")
        print(f"{num_left} of {counted(len(runs), 'run')} {are} left; the same command goes on.")
        sys.exit(RESUME_EXIT_CODE)
    for table in tables:
        if following := _after_one_seed(
            table, args.output, num_seeds=table.plan.seeds if args.table else _SEEDS
        ):
            print(following)


def _after_one_seed(table: NamedTable, output: Path, *, num_seeds: int) -> str | None:
    """The commands that follow differences of one seed; None where chance is in the table."""
    from balms_seg.evaluation.output.next_to_nothing import finds_next_to_nothing
    from balms_seg.experiments.runs import RESULTS_FILE

    runs = table.wanted()
    folders = {run.row: output / run.name for run in runs}
    pair = next((pair for pair in table.plan.all_pairs() if folders.keys() >= {*pair}), None)
    if pair is None or len({run.seed for run in runs}) > 1:
        return None
    left, right = (folders[row] for row in pair)
    if all(finds_next_to_nothing(folder / RESULTS_FILE) for folder in (left, right)):
        return None
    lines = {shlex.join(["balms-seg", "compare", str(right), str(left)]): "chance in the images"}
    if num_seeds > 1:
        lines[f"the same command with --seeds {num_seeds}"] = (
            "chance in the seed; what is finished is kept"
        )
    shown = [f"  {command}\n      {what}" for command, what in lines.items()]
    return "\n".join(["A difference of one seed may be chance. Next:", *shown])


def _gpus(wanted: int | None, plans: Sequence[TablePlan]) -> list[str]:
    from balms_seg.experiments.machine import visible_gpus

    if wanted is None:
        numbers = {plan.num_gpus for plan in plans} or {None}
        if len(numbers) > 1:
            raise ValueError("Some of the tables are for a CPU and some for GPUs; give --num-gpus.")
        wanted = numbers.pop()
        is_needed = any(plan.gpu_memory_mb for plan in plans)
    else:
        is_needed = False
    if wanted == 0:
        return []
    gpus = visible_gpus()[:wanted]
    if len(gpus) < (wanted or is_needed):
        raise ValueError(
            f"Expected {wanted or 'a'} GPU, but there are {len(gpus)}; --num-gpus 0 takes the CPU."
        )
    return gpus


def _tables_of_files(args: argparse.Namespace) -> list[NamedTable]:
    from balms_seg.experiments.table_file import check_configurations, read_plan
    from balms_seg.experiments.train_tables import NamedTable

    if args.results and args.opts:
        raise ValueError("Expected no KEY VALUE with --results, whose runs are of the file's own.")
    tables, imports = [], [word for name in args.imports for word in ("--import", name)]
    for path in args.table:
        words = ["balms-seg", "compare-methods", *imports, "--table", str(path), *args.opts]
        plan = read_plan(path).with_opts(args.opts)
        check_configurations(plan)
        tables.append(
            NamedTable(
                plan,
                (args.results or args.output) / path.stem,
                shlex.join(words),
                goes_on=args.results is not None,
                rows=tuple(args.methods),
                num_seeds=args.seeds,
            )
        )
    known = dict.fromkeys(row for table in tables for row in table.plan.rows)
    unknown = [row for row in args.methods if row not in known]
    if unknown:
        raise ValueError(f"Expected rows out of {'; '.join(known)}, but got {unknown[0]}.")
    return tables


def _table_of_methods(args: argparse.Namespace, num_gpus: int) -> NamedTable:
    from balms_seg.experiments.comparison_checks import check_comparison, keep_settings
    from balms_seg.experiments.method_comparison import Comparison
    from balms_seg.experiments.train_tables import NamedTable

    if not args.methods or args.results:
        raise ValueError("Expected --methods with --config-file, and --results only with --table.")
    wanted = Comparison(
        args.config_file,
        tuple(args.methods),
        args.seeds or _SEEDS,
        tuple(args.opts),
        tuple(args.imports),
        num_gpus=num_gpus,
    )
    comparison, cfg, left_out = check_comparison(wanted)
    for reason in left_out:
        print(f"Left out: {reason}")
    keep_settings(comparison, args.output)
    return NamedTable(comparison.plan(cfg), args.output / "table", comparison.command())
