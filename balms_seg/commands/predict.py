"""Say what is on images, by a trained image classifier or detector.

balms-seg predict output/birds photos/ more.jpg --output found
balms-seg predict output/birds/model_best.pth photos.zip --output found
balms-seg predict output/birds_calibrated.yaml photos --output found
balms-seg predict output/evaluated photos --output found
balms-seg predict output/my_data photos --thresholds output/held_out/thresholds.yaml --output found
balms-seg predict output/my_data photos --output found MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.01

The run's last checkpoint is taken, with the configuration and the classes that are in it; what an
evaluation (balms-seg train --eval-only) evaluated, as it did; or what a yaml of balms-seg calibrate
says, with its calibration. A checkpoint of another trainer takes the config.yaml beside it, and its
classes from the training set. A classifier gives names and probabilities,
and a sheet of the images it is least sure of; a detector gives COCO results (predictions.json), the
same as csv, and pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from balms_seg.commands.config_keys import add_key_arguments
from balms_seg.commands.imports import add_import_argument
from balms_seg.commands.outputs import output_path
from balms_seg.wording import agreeing, plain_path

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from balms_seg.engine.image_predictor import ImagePredictor
    from balms_seg.engine.instance_predictor import InstancePredictor

_FLOOR = "MODEL.ROI_HEADS.SCORE_THRESH_TEST"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A trained model, images, and where to write."""
    parser.add_argument(
        "run",
        type=plain_path,
        help="output folder of a run or an evaluation, a checkpoint, or the yaml of balms-seg "
        "calibrate",
    )
    parser.add_argument(
        "images", nargs="+", help="images, folders or zips of such, or patterns like 'photos/*.jpg'"
    )
    parser.add_argument("--output", type=output_path, required=True, metavar="DIR")
    add_import_argument(parser)
    parser.add_argument(
        "--batch-size", type=int, default=32, help="of a classifier; default: %(default)s"
    )
    parser.add_argument(
        "--thresholds",
        type=plain_path,
        metavar="FILE",
        help="thresholds.yaml of balms-seg thresholds: the score of a detection to cut at, class "
        "by class",
    )
    parser.add_argument(
        "--confidence-threshold",
        type=float,
        help="smallest score of a detection; default: 0.5, or classes' own thresholds where "
        "--thresholds or the model has such",
    )
    parser.add_argument(
        "--num-gpus", type=int, default=1, help="0 runs on the CPU, as where there is no GPU"
    )
    add_key_arguments(parser, after_words=True)


def run(args: argparse.Namespace) -> None:
    """Find the images, load the model, and predict."""
    from balms_seg.data.images.input_images import find_images
    from balms_seg.engine.image_predictor import ImagePredictor
    from balms_seg.engine.jobs.choice import build_job
    from balms_seg.engine.run_config import read_run_config

    addresses = find_images(args.images)
    cfg = read_run_config(args.run, args.opts, device=None if args.num_gpus else "cpu")
    if build_job(cfg).of_images:
        predictor = ImagePredictor.from_config(cfg)
        write_predictions(predictor, addresses, args.output, batch_size=args.batch_size)
    else:
        write_detections(cfg, addresses, args)


def write_detections(cfg: CfgNode, addresses: list[str], args: argparse.Namespace) -> None:
    """Detect, write, and say how many instances of which class there are."""
    from balms_seg.commands.instance_predictions import write_instances
    from balms_seg.engine.instance_predictor import InstancePredictor
    from balms_seg.evaluation.output.next_to_nothing import FINDS_NOTHING, finds_next_to_nothing
    from balms_seg.evaluation.uncertainty.stored_thresholds import YAML_FILE

    predictor = InstancePredictor.from_config(
        cfg, thresholds=args.thresholds, min_score=args.confidence_threshold
    )
    print(describe_cut(predictor))
    folders = (args.run, Path(cfg.MODEL.WEIGHTS).parent)  # of an evaluation, of the training
    thresholds = first_file(folders, YAML_FILE)
    if thresholds and not predictor.has_class_thresholds and args.confidence_threshold is None:
        print(f"There are thresholds of its classes: --thresholds {plain_path(thresholds)}.")
    counts = write_instances(predictor, addresses, args.output)
    results = first_file(folders, "results.json")
    is_of_use = results is None or not finds_next_to_nothing(results)
    for name, number in counts.most_common():
        print(f"{number:6} {name}")
    if not counts:
        print(describe_nothing(predictor, with_remedy=is_of_use))
    if not is_of_use:
        print(f"{FINDS_NOTHING} So says {results}.")
    print(
        "predictions.json, predictions.csv and pictures are in "
        f"{plain_path(args.output.absolute())}."
    )


def first_file(folders: Sequence[Path], name: str) -> Path | None:
    """The first file of a name in one of the folders."""
    return next((file for folder in folders if (file := folder / name).is_file()), None)


def describe_cut(predictor: InstancePredictor) -> str:
    """Which detections are kept, and what changes that."""
    score = f"scores of {predictor.min_score:g} and above"
    if predictor.has_class_thresholds:
        also = f" and {score}" * bool(predictor.min_score)
        kept, change = f"scores from their class's threshold on{also}", "--thresholds changes them"
    elif predictor.min_score <= predictor.model_floor:
        kept, change = f"scores above {_FLOOR} {predictor.model_floor:g}", "a lower one keeps more"
    else:
        kept, change = score, "--confidence-threshold or --thresholds changes it"
    return f"Kept are detections of {kept}; {change}."


def describe_nothing(predictor: InstancePredictor, *, with_remedy: bool) -> str:
    """That no detection is left, and what would leave some."""
    number = predictor.num_dropped
    if number:
        were = agreeing(number, "was", "were")
        said = f"No detection passed the threshold; {number} {were} below it."
        remedy = "Lower --confidence-threshold, or choose --thresholds with balms-seg thresholds."
    elif predictor.has_class_thresholds:
        said = "No detection passed its class's threshold."
        remedy = "Choose lower --thresholds, by balms-seg thresholds with another --objective."
    else:
        said = f"The model found nothing of a score above {_FLOOR} {predictor.model_floor:g}."
        remedy = "Give a lower one at the end of the command."
    return f"{said} {remedy}" if with_remedy else said


def write_predictions(
    predictor: ImagePredictor, addresses: list[str], output_dir: Path, *, batch_size: int = 32
) -> None:
    """Predict, write, and say how many images have which class."""
    from balms_seg.engine.predicted_images import CSV_FILE, SHEET_FILE, predict_images

    counts = predict_images(predictor, addresses, output_dir, batch_size=batch_size)
    for name, number in counts.most_common():
        print(f"{number:6} {name}")
    print(f"{CSV_FILE} and {SHEET_FILE} are in {plain_path(output_dir.absolute())}.")
