"""Say what is on images, by a trained image classifier or detector.

balms-seg predict output/birds photos/ more.jpg --output found
balms-seg predict output/birds/model_best.pth photos.zip --output found
balms-seg predict output/birds_calibrated.yaml photos --output found
balms-seg predict output/evaluated photos --output found
balms-seg predict output/my_data photos --thresholds output/held_out/thresholds.yaml --output found

The run's last checkpoint is taken, with the configuration and the classes that are in it; what an
evaluation (balms-seg train --eval-only) evaluated, as it did; or what a yaml of balms-seg calibrate
says, with its calibration. A checkpoint of another trainer takes the config.yaml beside it, and its
classes from the training set. A classifier gives names and probabilities,
and a sheet of the images it is least sure of; a detector gives COCO results (predictions.json), the
same as csv, and pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from balms_seg.commands.imports import add_import_argument
from balms_seg.commands.outputs import output_path
from balms_seg.wording import agreeing, plain_path

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from balms_seg.engine.image_predictor import ImagePredictor


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
        default=0.5,
        help="smallest score of a detection, without --thresholds; default: %(default)s",
    )
    parser.add_argument(
        "--num-gpus", type=int, default=1, help="0 runs on the CPU, as where there is no GPU"
    )


def run(args: argparse.Namespace) -> None:
    """Find the images, load the model, and predict."""
    from balms_seg.data.images.input_images import find_images
    from balms_seg.engine.image_predictor import ImagePredictor
    from balms_seg.engine.jobs.choice import build_job
    from balms_seg.engine.run_config import read_run_config

    addresses = find_images(args.images)
    cfg = read_run_config(args.run, device=None if args.num_gpus else "cpu")
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

    predictor = InstancePredictor.from_config(
        cfg, thresholds=args.thresholds, min_score=args.confidence_threshold
    )
    counts = write_instances(predictor, addresses, args.output)
    folders = (args.run, Path(cfg.MODEL.WEIGHTS).parent)  # of an evaluation, of the training
    results = next((file for each in folders if (file := each / "results.json").is_file()), None)
    is_of_use = results is None or not finds_next_to_nothing(results)
    for name, number in counts.most_common():
        print(f"{number:6} {name}")
    if not counts:
        remedy = (
            " Lower --confidence-threshold, or choose --thresholds with balms-seg thresholds."
        ) * is_of_use
        were = agreeing(predictor.num_dropped, "was", "were")
        print(
            f"No detection passed the threshold; {predictor.num_dropped} {were} below it.{remedy}"
        )
    if not is_of_use:
        print(f"{FINDS_NOTHING} So says {results}.")
    print(
        "predictions.json, predictions.csv and pictures are in "
        f"{plain_path(args.output.absolute())}."
    )


def write_predictions(
    predictor: ImagePredictor, addresses: list[str], output_dir: Path, *, batch_size: int = 32
) -> None:
    """Predict, write, and say how many images have which class."""
    from balms_seg.engine.predicted_images import CSV_FILE, SHEET_FILE, predict_images

    counts = predict_images(predictor, addresses, output_dir, batch_size=batch_size)
    for name, number in counts.most_common():
        print(f"{number:6} {name}")
    print(f"{CSV_FILE} and {SHEET_FILE} are in {plain_path(output_dir.absolute())}.")
