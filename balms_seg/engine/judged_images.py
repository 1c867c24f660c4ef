"""Pictures of what a classifier got most wrong and was least sure of, a sheet for each class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from balms_seg.data import load_dataset_dicts
from balms_seg.data.images.contact_sheet import Tile, draw_sheet
from balms_seg.data.images.image_files import read_image
from balms_seg.data.images.image_lists import read_image_records
from balms_seg.evaluation.images.classifier_predictions import (
    ClassifierPredictions,
    StoredPredictions,
)

_COLUMNS = 6
_WRONG, _RIGHT = "#b3261e", "#1b1b1b"


def draw_worst_images(
    stored: StoredPredictions,
    addresses: Mapping[str, str],
    output_dir: Path,
    *,
    num_classes: int = 50,
) -> list[Path]:
    """Write a sheet for each of the classes with the lowest accuracy.

    The upper rows have the images of the class whose label got the lowest probability, the lower
    ones those of the rest on which the two most probable classes are closest. Red: the prediction
    is wrong.

    Args:
        stored: what the classifier said.
        addresses: where each image lies, by its key; see `image_addresses`.
        output_dir: made where missing.
        num_classes: how many sheets at most.

    Returns:
        The files, worst class first.

    Raises:
        FileNotFoundError: an image is no longer there.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    written = []
    for place, label in enumerate(_worst_classes(stored.predictions)[:num_classes]):
        tiles = [_tile(stored, index, addresses) for index in _chosen(stored.predictions, label)]
        name = re.sub(r"[^\w-]+", "_", stored.class_names[label])
        path = output_dir / f"{place:03}_{name}.png"
        draw_sheet(tiles, tile_px=160, columns=min(_COLUMNS, len(tiles))).save(path)
        written.append(path)
    return written


def image_addresses(config_text: str, dataset: str) -> dict[str, str]:
    """Where each image of an evaluation set lies, by its key.

    Args:
        config_text: resolved configuration of the run, as yaml.
        dataset: name of the set, registered there or builtin.

    Raises:
        ValueError: the set is neither.
    """
    config = yaml.safe_load(config_text) if config_text else None
    sets = config.get("DATASETS", {}) if isinstance(config, Mapping) else {}
    for name, source, root in sets.get("REGISTER_IMAGES", []):
        if name == dataset:
            records = read_image_records(str(Path(source).expanduser()), root).records
            return {record["key"]: record["file_name"] for record in records}
    try:
        return {record["key"]: record["file_name"] for record in load_dataset_dicts(dataset)}
    except KeyError as error:
        raise ValueError(
            f"The run's configuration does not register '{dataset}', so its images cannot be found."
        ) from error


def _worst_classes(predictions: ClassifierPredictions) -> list[int]:
    """Classes that have images, the one of lowest accuracy first."""
    images = np.bincount(predictions.labels)
    right = np.bincount(predictions.labels[predictions.is_right], minlength=len(images))
    present = np.flatnonzero(images)
    return present[np.argsort(right[present] / images[present], kind="stable")].tolist()


def _chosen(predictions: ClassifierPredictions, label: int) -> list[int]:
    """Up to a row of the most wrong images of a class, then up to one of the least sure."""
    own = np.flatnonzero(predictions.labels == label)
    wrong = own[~predictions.is_right[own]]
    most_wrong = wrong[np.argsort(predictions.label_scores[wrong], kind="stable")][:_COLUMNS]
    rest = own[~np.isin(own, most_wrong)]
    margin = predictions.top_scores[rest, 0] - predictions.top_scores[rest, 1]
    least_sure = rest[np.argsort(margin, kind="stable")][:_COLUMNS]
    return [*most_wrong.tolist(), *least_sure.tolist()]


def _tile(stored: StoredPredictions, index: int, addresses: Mapping[str, str]) -> Tile:
    predictions = stored.predictions
    key = str(predictions.keys[index])
    if key not in addresses:
        raise FileNotFoundError(f"Image {key} is no longer in the evaluation set.")
    lines = [
        f"{stored.class_names[number]} {score:.2f}"
        for number, score in zip(
            predictions.top_classes[index, :2], predictions.top_scores[index, :2], strict=True
        )
    ]
    color = _RIGHT if predictions.is_right[index] else _WRONG
    return Tile(read_image(addresses[key]), [*lines, key[-26:]], color)
