"""Choose for each class the score to cut at, from the matches of an evaluated run.

balms-seg thresholds output/held_out --objective f1
balms-seg thresholds output/held_out --objective precision=0.9 --output output/thresholds
balms-seg thresholds output/held_out --checkpoint output/run/model_final.pth

Evaluate the run on held-out images of the training set first, so that the test images have no say.
Writes thresholds.csv and thresholds.yaml, a fragment of configuration: with _BASE_ naming the run's
config.yaml the model cuts at these scores wherever it predicts. In a checkpoint they travel with
the weights: predict and demo cut there, evaluations do not, since AP ranks all detections. Classes
with few objects lean on the curve of their frequency group (--prior-objects). Precision and recall
are those of images that had no say in the threshold.
"""

from __future__ import annotations

import argparse

from balms_seg.commands.outputs import output_path, warn_of_replacing
from balms_seg.wording import plain_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A run, what to choose for, and where to write."""
    parser.add_argument(
        "run", type=plain_path, metavar="RUN", help="output folder, or a file in it"
    )
    parser.add_argument(
        "--objective",
        default="f1",
        help="f1, f0.5, f2, precision=0.9, recall=0.8 and the like; default: %(default)s",
    )
    parser.add_argument(
        "--task", choices=("bbox", "segm"), default="bbox", help="what counts as right, at IoU 0.5"
    )
    parser.add_argument(
        "--prior-objects",
        type=float,
        default=20.0,
        help="how many objects' worth a class's group counts in its threshold; 0: each class by "
        "itself; default: %(default)s",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--checkpoint",
        type=plain_path,
        metavar="PTH",
        help="also write them into this checkpoint, which has to be of the same classes",
    )
    parser.add_argument(
        "--read-outside", action="store_true", help="follow links that lead out of RUN"
    )
    parser.add_argument(
        "--output", type=output_path, metavar="DIR", help="folder of both files; default: RUN"
    )


def run(args: argparse.Namespace) -> None:
    """Choose, write both files, and print a line a group."""
    from balms_seg.evaluation.images.stored_comparison import prediction_files
    from balms_seg.evaluation.uncertainty.stored_thresholds import (
        CSV_FILE,
        YAML_FILE,
        choose_stored_thresholds,
    )

    if prediction_files(args.run):
        raise ValueError(
            f"{args.run} is of an image classifier, which gives every image one class whatever its "
            "score, so that there is nothing to cut; balms-seg calibrate makes its scores mean "
            "what they say."
        )
    folder = args.output or (args.run if args.run.is_dir() else args.run.parent)
    if args.output is None:
        warn_of_replacing(folder / CSV_FILE, folder / YAML_FILE)
    chosen = choose_stored_thresholds(
        args.run,
        args.objective,
        task=args.task,
        prior_objects=args.prior_objects,
        seed=args.seed,
        output=folder,
        outside=args.read_outside,
    )
    print(chosen.table)
    if args.checkpoint is not None:
        from balms_seg.engine.tuning.checkpoint_thresholds import keep_thresholds

        keep_thresholds(args.checkpoint, chosen.class_names, chosen.values)
        print(f"They are in {args.checkpoint}, too.")
