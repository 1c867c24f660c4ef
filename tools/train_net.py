#!/usr/bin/env python
"""Train or evaluate a model; the flags are detectron2's, and torchrun works too."""

import sys
from argparse import Namespace

from detectron2.engine import default_argument_parser

from balms_seg.data import read_once
from balms_seg.engine import LongTailedTrainer, evaluate, launch, setup, train


def main(args: Namespace) -> None:
    """Run the job on this rank; what is wrong before it starts is one message, not a traceback."""
    with read_once():  # preflight, class statistics and loader share the annotations
        try:
            cfg = setup(args)
        except (ValueError, KeyError, OSError, RuntimeError) as error:
            message = error.args[0] if isinstance(error, KeyError) and error.args else error
            sys.exit(f"{type(error).__name__}: {message}")
        trainer = None if args.eval_only else LongTailedTrainer(cfg)
    if trainer is None:
        evaluate(cfg, resume=args.resume)
    else:
        train(trainer, resume=args.resume)


if __name__ == "__main__":
    launch(main, default_argument_parser().parse_args())
