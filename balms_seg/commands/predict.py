"""Say what is on images, by a trained image classifier: names and probabilities, and a sheet.

balms-seg predict output/birds photos/ more.jpg --output found
balms-seg predict output/birds/model_best.pth photos.zip --output found

The run's last checkpoint is taken, with the configuration and the classes that are in it. The sheet
shows the images that the classifier is least sure of.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from balms_seg.commands.imports import add_import_argument

if TYPE_CHECKING:
    from balms_seg.engine.image_predictor import ImagePredictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A trained classifier, images, and where to write."""
    parser.add_argument("run", type=Path, help="output folder of a run, or a checkpoint")
    parser.add_argument(
        "images", nargs="+", help="images, folders or zips of such, or patterns like 'photos/*.jpg'"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    add_import_argument(parser)
    parser.add_argument("--batch-size", type=int, default=32, help="default: %(default)s")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="default: a GPU where there is one"
    )


def run(args: argparse.Namespace) -> None:
    """Find the images, load the classifier, and predict."""
    from balms_seg.data.images.input_images import find_images
    from balms_seg.engine.image_predictor import ImagePredictor

    addresses = find_images(args.images)
    predictor = ImagePredictor.from_checkpoint(args.run, device=args.device)
    write_predictions(predictor, addresses, args.output, batch_size=args.batch_size)


def write_predictions(
    predictor: ImagePredictor, addresses: list[str], output_dir: Path, *, batch_size: int = 32
) -> None:
    """Predict, write, and say how many images have which class."""
    from balms_seg.engine.predicted_images import CSV_FILE, SHEET_FILE, predict_images

    counts = predict_images(predictor, addresses, output_dir, batch_size=batch_size)
    for name, number in counts.most_common():
        print(f"{number:6} {name}")
    print(f"{CSV_FILE} and {SHEET_FILE} are in {output_dir.absolute()}.")
