"""Say which differences between evaluated runs are larger than chance.

balms-seg compare output/softmax output/balanced_softmax
balms-seg compare output/softmax_seed* --with output/balanced_softmax_seed*

A run is the output folder of training, of --eval-only or of evaluate, or a file in it. All have to
be evaluated on the same annotations, or for image classifiers on the same images, which are paired
by their paths.

Two runs: the interval covers the choice of evaluation images; another training seed adds to it.
Pairs, the first run before --with with the first one after it and so on, each pair of one training
seed: the interval covers the seed, and the images stay what they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from balms_seg.wording import plain_path

if TYPE_CHECKING:
    from balms_seg.evaluation.uncertainty.pooled_pairs import Pairs

_NUM_RESAMPLES, _SEED = 1000, 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two runs or pairs of them, and how they are resampled."""
    parser.add_argument(
        "runs", type=plain_path, nargs="+", metavar="A", help="two runs, or one a seed"
    )
    parser.add_argument(
        "--with",
        type=plain_path,
        nargs="+",
        dest="others",
        metavar="B",
        help="what to compare those before it with, as many and in the same order of seeds",
    )
    parser.add_argument("--level", type=float, default=0.95, help="default: %(default)s")
    parser.add_argument(
        "--resamples", type=int, help=f"of the images, for two runs; default: {_NUM_RESAMPLES}"
    )
    parser.add_argument("--seed", type=int, help=f"of the resamples; default: {_SEED}")
    parser.add_argument(
        "--read-outside", action="store_true", help="follow links that lead out of the runs"
    )


def run(args: argparse.Namespace) -> None:
    """Compare what the runs were evaluated on."""
    from balms_seg.evaluation.predictions.run_folder import odd_files_explained
    from balms_seg.evaluation.uncertainty.pooled_pairs import Pairs

    if args.others is None and len(args.runs) != 2:
        raise ValueError(
            f"Expected two runs, but got {len(args.runs)}; for several seeds give pairs: "
            "balms-seg compare A1 A2 A3 --with B1 B2 B3."
        )
    first, second = (
        (args.runs[:1], args.runs[1:]) if args.others is None else (args.runs, args.others)
    )
    pairs = Pairs(tuple(first), tuple(second))
    with odd_files_explained(*pairs.runs):
        if len(first) > 1:
            print(_compare_pairs(pairs, args))
        else:
            print(_compare_two(first[0], second[0], args))


def _compare_two(first: Path, second: Path, args: argparse.Namespace) -> str:
    from balms_seg.evaluation.images.stored_comparison import compare_stored_classifiers
    from balms_seg.evaluation.uncertainty.stored_runs import compare_stored_runs

    of_images = _are_of_images((first, second), args)
    compare = compare_stored_classifiers if of_images else compare_stored_runs
    return compare(
        first,
        second,
        num_resamples=_NUM_RESAMPLES if args.resamples is None else args.resamples,
        seed=_SEED if args.seed is None else args.seed,
        level=args.level,
        outside=args.read_outside,
    )


def _compare_pairs(pairs: Pairs, args: argparse.Namespace) -> str:
    from balms_seg.evaluation.images.stored_comparison import compare_classifier_pairs
    from balms_seg.evaluation.uncertainty.stored_runs import compare_stored_pairs

    if args.resamples is not None or args.seed is not None:
        raise ValueError(
            "Expected no --resamples and no --seed beside several pairs: their interval is over "
            "the training seeds, and nothing is drawn."
        )
    compare = compare_classifier_pairs if _are_of_images(pairs.runs, args) else compare_stored_pairs
    return compare(pairs, level=args.level, outside=args.read_outside)


def _are_of_images(runs: Sequence[Path], args: argparse.Namespace) -> bool:
    from balms_seg.evaluation.images.stored_comparison import prediction_files

    return any(prediction_files(run, outside=args.read_outside) for run in runs)
