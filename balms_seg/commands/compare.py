"""Say which differences between two evaluated runs are larger than chance.

balms-seg compare output/softmax output/balanced_softmax

A run is the output folder of training, of --eval-only or of evaluate, or a file in it. Both have to
be evaluated on the same annotations, or for image classifiers on the same images, which are paired
by their paths. The interval covers the choice of evaluation images; another training seed adds to
it, so compare several seeds before believing a gain.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two runs, and how they are resampled."""
    parser.add_argument("first", type=Path, metavar="A", help="a run")
    parser.add_argument("second", type=Path, metavar="B", help="another")
    parser.add_argument("--resamples", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--level", type=float, default=0.95, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--read-outside", action="store_true", help="follow links that lead out of the runs"
    )


def run(args: argparse.Namespace) -> None:
    """Compare what both runs were evaluated on."""
    from balms_seg.evaluation.images.stored_comparison import (
        compare_stored_classifiers,
        prediction_files,
    )
    from balms_seg.evaluation.predictions.run_folder import odd_files_explained
    from balms_seg.evaluation.uncertainty.stored_runs import compare_stored_runs

    with odd_files_explained(args.first, args.second):
        of_images = any(
            prediction_files(r, outside=args.read_outside) for r in (args.first, args.second)
        )
        compare = compare_stored_classifiers if of_images else compare_stored_runs
        text = compare(
            args.first,
            args.second,
            num_resamples=args.resamples,
            seed=args.seed,
            level=args.level,
            outside=args.read_outside,
        )
        print(text)
