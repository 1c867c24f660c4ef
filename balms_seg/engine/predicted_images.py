"""What a classifier says of a folder of images, as files for people."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from balms_seg.data.images.contact_sheet import Tile, draw_sheet
from balms_seg.engine.image_predictor import ImageGuess, ImagePredictor
from balms_seg.evaluation.images.classifier_predictions import write_ranked_csv
from balms_seg.progress import with_progress
from balms_seg.wording import counted

logger = logging.getLogger(__name__)

CSV_FILE = "predictions.csv"
SHEET_FILE = "contact_sheet.png"


def predict_images(
    predictor: ImagePredictor,
    addresses: Sequence[str],
    output_dir: Path,
    *,
    batch_size: int = 32,
    num_shown: int = 100,
) -> Counter[str]:
    """Write predictions.csv, a line an image, and contact_sheet.png, the least sure images first.

    Images that cannot be read are left out, with a warning each.

    Args:
        predictor: of a trained classifier.
        addresses: of images.
        output_dir: made where missing.
        batch_size: images at once.
        num_shown: images on the sheet at most.

    Returns:
        How many images were given each class.

    Raises:
        ValueError: none of the images can be read.
    """
    guesses: list[ImageGuess] = []
    starts = range(0, len(addresses), batch_size)
    for start in with_progress(starts, label="predicting", unit="batch"):
        readable = _readable(predictor, addresses[start : start + batch_size])
        guesses += [
            ImageGuess(address, guess.names, guess.scores)
            for address, guess in zip(readable, predictor(list(readable.values())), strict=True)
        ]
    if not guesses:
        raise ValueError(f"None of the {counted(len(addresses), 'image')} can be read.")
    output_dir.mkdir(parents=True, exist_ok=True)
    write_ranked_csv(
        output_dir / CSV_FILE,
        [guess.path for guess in guesses],
        [guess.names for guess in guesses],
        [guess.scores for guess in guesses],
    )
    least_sure = sorted(guesses, key=lambda guess: guess.scores[0])[:num_shown]
    draw_sheet([_tile(predictor, guess) for guess in least_sure]).save(output_dir / SHEET_FILE)
    return Counter(guess.names[0] for guess in guesses)


def _readable(predictor: ImagePredictor, addresses: Sequence[str]) -> dict[str, np.ndarray]:
    pixels = {}
    for address in addresses:
        try:
            pixels[address] = predictor.read(address)
        except OSError as error:
            logger.warning("%s It is left out.", error)
    return pixels


def _tile(predictor: ImagePredictor, guess: ImageGuess) -> Tile:
    lines = [f"{name} {score:.2f}" for name, score in zip(guess.names, guess.scores, strict=True)]
    return Tile(predictor.read(guess.path), [*lines[:2], Path(guess.path).name])
