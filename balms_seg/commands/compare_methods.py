"""Train methods with several seeds on one data set, and say which of them is better.

balms-seg compare-methods --config-file F --methods softmax balanced_softmax --seeds 3
balms-seg compare-methods --config-file F --methods softmax all --seeds 1 SOLVER.MAX_ITER 500
balms-seg compare-methods --config-file F --import my_method --methods softmax mine --seeds 3

F is a configuration of `balms-seg train`, of a detector or of an image classifier; only the method,
the seed and the folder differ between the runs. The first method is what the others are compared
with, seed by seed. "all" stands for every method that goes with the data. Settings of a method are
keys of its own, as in MODEL.METHODS.FEDERATED.CLASSES 20, and change no other's runs.

As many runs as there are GPUs, or else cores, train side by side. The same command goes on after an
interruption: finished runs are kept, others resume. SIGTERM, Ctrl-C and the end of --minutes leave
checkpoints; the exit code is 75 where runs are left to do, 1 where one failed.

The table is in DIR/table.md, table.csv and table.json, and each run in DIR/METHOD_seedN. Its
intervals cover the choice of the seed; `balms-seg compare` has those of evaluation images.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from balms_seg.commands.imports import add_import_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is compared, and how much of the machine it takes."""
    parser.add_argument("--config-file", required=True, metavar="F", help="as for balms-seg train")
    add_import_argument(parser)
    parser.add_argument(
        "--methods", nargs="+", required=True, metavar="NAME", help='names, or "all"'
    )
    parser.add_argument("--seeds", type=_at_least(1), default=3, help="default: %(default)s")
    parser.add_argument(
        "--output", type=Path, default=Path("output/compare_methods"), metavar="DIR"
    )
    parser.add_argument(
        "--num-gpus",
        type=_at_least(0),
        help="0: the CPU; default: all there are, one a run",
    )
    parser.add_argument(
        "--jobs", type=_at_least(1), help="runs side by side; default: one a GPU, or one a core"
    )
    parser.add_argument("--minutes", type=float, help="end after so many, to be gone on with")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="configuration keys of all runs"
    )


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"expected {least} or more, but got {text}")
        return int(text)

    return number


def run(args: argparse.Namespace) -> None:
    """Check all, train what is not finished, write the table."""
    from balms_seg.experiments.comparison_checks import check_comparison, keep_settings
    from balms_seg.experiments.machine import num_cores, places, visible_gpus
    from balms_seg.experiments.method_comparison import Comparison
    from balms_seg.experiments.runs import is_finished, train_all
    from balms_seg.experiments.table import write_table
    from balms_seg.stop_signals import RESUME_EXIT_CODE

    gpus = visible_gpus()[: args.num_gpus]
    if args.num_gpus is not None and len(gpus) < args.num_gpus:
        raise ValueError(f"--num-gpus is {args.num_gpus}, but there are {len(gpus)} GPUs.")
    wanted = Comparison(
        args.config_file,
        tuple(args.methods),
        args.seeds,
        tuple(args.opts),
        tuple(args.imports),
        num_gpus=len(gpus),
    )
    comparison, cfg, left_out = check_comparison(wanted)
    for reason in left_out:
        print(f"Left out: {reason}")
    keep_settings(comparison, args.output)
    runs, jobs = comparison.runs(), args.jobs or len(gpus) or num_cores()
    left = [run for run in runs if not is_finished(args.output / run.name)]
    print(
        f"{len(runs)} runs of {cfg.SOLVER.MAX_ITER} iterations, {len(runs) - len(left)} of them "
        f"finished; {jobs} side by side, {'a GPU' if gpus else 'a CPU core'} each"
    )
    failed = train_all(
        left,
        args.output,
        comparison.train_command,
        places=places(jobs, gpus),
        minutes=args.minutes,
    )
    table = comparison.table(cfg, args.output)
    if table is not None:
        note = (
            f"{cfg.SOLVER.MAX_ITER} iterations of {cfg.SOLVER.IMS_PER_BATCH} images, evaluated on "
            f"{', '.join(cfg.DATASETS.TEST)}, percent."
        )
        print(write_table(table, args.output / "table", note=note))
        print(f"It is in {args.output / 'table.md'}, .csv and .json.")
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}. The lines above say "
            "why; the same command tries them again."
        )
    num_left = sum(not is_finished(args.output / run.name) for run in runs)
    if num_left:
        print(f"{num_left} of {len(runs)} runs are left; the same command goes on.")
        sys.exit(RESUME_EXIT_CODE)
