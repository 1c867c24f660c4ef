"""Train or evaluate a model.

balms-seg train --list
balms-seg train --config-file toy/demo.yaml --num-gpus 0 OUTPUT_DIR output/demo
balms-seg train --config-file F --num-gpus 8 --resume SOLVER.MAX_ITER 2000
balms-seg train --config-file F --num-gpus 8 --dry-run
balms-seg train --config-file F --eval-only MODEL.WEIGHTS output/model_final.pth
torchrun --nproc-per-node 8 -m balms_seg train --config-file F
balms-seg train --import my_method --config-file F MODEL.ROI_BOX_HEAD.CLASSIFIER mine
balms-seg train --num-gpus 8 X.py train.max_iter=2000

F is a yaml file, or the name of one that comes with the package. The flags are detectron2's.
X.py is a Python configuration (detectron2's LazyConfig): code, which is run. configs/lazy has some.
SIGTERM, SIGUSR1, SIGHUP and Ctrl-C end the run after the iteration, with a checkpoint and exit code
75: the same command with --resume goes on. A second one ends it at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from balms_seg.commands.command_line import errors_in_one_line
from balms_seg.commands.config_keys import add_key_arguments
from balms_seg.commands.imports import add_import_argument, import_modules
from balms_seg.stop_signals import stop_signals

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of detectron2's own parser, which cannot be had without importing torch."""
    parser.add_argument("--config-file", default="", metavar="FILE", help="path or name of a yaml")
    add_import_argument(parser)
    parser.add_argument(
        "--list", action="store_true", help="list the configurations that come with the package"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint of OUTPUT_DIR"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="start anew in a used OUTPUT_DIR, whose files move to OUTPUT_DIR/earlier_run_N",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="read and check all, in this process and without a GPU if need be; tell the schedule, "
        "the memory and the sampling of --num-gpus, and stop",
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    parser.add_argument(
        "--num-gpus", type=int, default=1, help="on each machine, 0: CPU; default: %(default)s"
    )
    parser.add_argument("--num-machines", type=int, default=1, help="default: %(default)s")
    parser.add_argument(
        "--machine-rank", type=int, default=0, help="number of this machine, from 0"
    )
    # One port for each user, so that a process left over is noticed.
    user = os.getuid() if hasattr(os, "getuid") else 1
    parser.add_argument(
        "--dist-url",
        default=f"tcp://127.0.0.1:{2**15 + 2**14 + hash(user) % 2**14}",
        help="where the processes meet; default: %(default)s",
    )
    parser.add_argument(
        "--timeout-minutes",
        type=float,
        default=30,
        help="how long a process waits for the others before it fails; default: %(default)s",
    )
    add_key_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Start the job on every rank."""
    if args.list:
        from balms_seg.model_zoo import describe_config_files

        print(describe_config_files())
        return
    is_python = name_python_config(args)
    if not is_python:
        from balms_seg.engine.config_files import refuse_flags

        refuse_flags(args.opts)
    if args.dry_run:
        from balms_seg.engine.dry_run import dry_run

        print(dry_run(args))
        return
    from torch.multiprocessing import ProcessExitedException

    from balms_seg.engine.launch import launch

    try:
        launch(run_lazily_on_this_rank if is_python else run_on_this_rank, args)
    except ProcessExitedException as error:
        sys.exit(error.exit_code)  # the rank that ended has said why


def name_python_config(args: argparse.Namespace) -> bool:
    """Whether the run is of a Python configuration, whose path `config_file` then is.

    Raises:
        ValueError: there are flags after the file, or some that only yaml has.
    """
    if not args.config_file and args.opts and args.opts[0].endswith(".py"):
        args.config_file, *args.opts = args.opts
    if not args.config_file.endswith(".py"):
        return False
    late = [word for word in args.opts if word.startswith("--")]
    if late:
        raise ValueError(f"Expected flags before {args.config_file}, but got {late[0]} after it.")
    if args.dry_run or args.overwrite:
        raise ValueError(
            "--dry-run and --overwrite are for yaml configurations; a Python configuration, here "
            f"{args.config_file}, is trained by detectron2's own loop, which has neither."
        )
    return True


def run_lazily_on_this_rank(args: argparse.Namespace) -> None:
    """Train or evaluate a Python configuration as one of the ranks."""
    from balms_seg.distributed import ending_at_once
    from balms_seg.engine.lazy_run import run_lazily

    with errors_in_one_line("train"), ending_at_once():
        import_modules(args.imports)
        run_lazily(args)


def run_on_this_rank(args: argparse.Namespace) -> None:
    """Train or evaluate as one of the ranks."""
    from detectron2.utils import comm

    from balms_seg.distributed import ending_at_once
    from balms_seg.engine import LongTailedTrainer, evaluate, setup, train
    from balms_seg.engine.interruption import early_stops_told
    from balms_seg.engine.run_data import DataSets
    from balms_seg.engine.run_summary import describe_end

    with errors_in_one_line("train"), ending_at_once(), stop_signals.installed():
        import_modules(args.imports)  # a spawned rank has imported nothing yet
        sets = DataSets()
        with early_stops_told("evaluated" if args.eval_only else "trained"):
            cfg = setup(args, sets)
            trainer = None if args.eval_only else LongTailedTrainer(cfg, sets)
        if trainer is None:
            evaluate(cfg, sets, resume=args.resume)
        else:
            del sets  # which hold more than is trained on
            train(trainer, resume=args.resume)
            if comm.is_main_process():
                draw_meta_rates(Path(cfg.OUTPUT_DIR) / "meta_rates.csv")
        if comm.is_main_process():
            logger.info(describe_end(cfg))


def draw_meta_rates(rates: Path) -> None:
    """Draw what a meta step learned beside its csv, where there is one and vl-convert too."""
    if not rates.is_file():
        return
    from balms_seg.report.figures import meta_rates, save_figure

    try:
        save_figure(meta_rates(rates), rates.with_suffix(".png"))
    except ModuleNotFoundError as error:
        logger.info("No figure of %s: %s", rates, error)
