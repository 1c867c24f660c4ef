#!/usr/bin/env python
"""Train or evaluate a model; the flags are detectron2's, and torchrun works too."""

import sys
from argparse import Namespace

from detectron2.engine import default_argument_parser

from balms_seg.engine import evaluate, launch, setup, train


def main(args: Namespace) -> None:
    """Run the job on this rank; what is wrong before it starts is one message, not a traceback."""
    try:
        cfg = setup(args)
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        sys.exit(f"{type(error).__name__}: {message}")
    if args.eval_only:
        evaluate(cfg, resume=args.resume)
    else:
        train(cfg, resume=args.resume)


if __name__ == "__main__":
    launch(main, default_argument_parser().parse_args())
