#!/usr/bin/env python
"""Train or evaluate a model; the flags are detectron2's, and torchrun works too."""

import logging
import sys
from argparse import Namespace
from pathlib import Path

from detectron2.engine import default_argument_parser
from detectron2.utils import comm

from balms_seg.data import read_once
from balms_seg.engine import LongTailedTrainer, evaluate, launch, setup, train
from balms_seg.report.figures import plot_meta_rates

logger = logging.getLogger("balms_seg")


def main(args: Namespace) -> None:
    """Run the job on this rank; what is wrong before it starts is one message, not a traceback."""
    with read_once():  # preflight, class statistics and loader share the annotations
        try:
            cfg = setup(args)
            trainer = None if args.eval_only else LongTailedTrainer(cfg)
        except (ValueError, KeyError, OSError, RuntimeError) as error:
            message = error.args[0] if isinstance(error, KeyError) and error.args else error
            sys.exit(f"{type(error).__name__}: {message}")
    if trainer is None:
        evaluate(cfg, resume=args.resume)
    else:
        train(trainer, resume=args.resume)
        if comm.is_main_process():
            draw_meta_rates(Path(cfg.OUTPUT_DIR) / "meta_rates.csv")


def draw_meta_rates(rates: Path) -> None:
    """Draw what a meta step learned beside its csv, where there is one and matplotlib is there."""
    if not rates.is_file():
        return
    try:
        plot_meta_rates(rates, rates.with_suffix(".png"))
    except ModuleNotFoundError as error:
        logger.info("No figure of %s: %s", rates, error)


if __name__ == "__main__":
    launch(main, default_argument_parser().parse_args())
