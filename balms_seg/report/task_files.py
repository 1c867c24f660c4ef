"""What an evaluation left of one task."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balms_seg.evaluation.images.classifier_predictions import (
    StoredPredictions,
    read_predictions,
)
from balms_seg.evaluation.output.per_class import read_per_class_json
from balms_seg.evaluation.predictions.match_file import StoredMatches, read_matches

TASK_NAMES = {"segm": "masks", "bbox": "boxes"}
IMAGE_TASK = "classification"


@dataclass(frozen=True, eq=False)
class TaskFiles:
    """What an evaluation left of one task; None where the file is missing.

    Attributes:
        classes: rows of per_class_{task}.json.
        reliability: per group, as calibration_{task}.json has it.
        matches: for intervals and comparisons; of instances.
        predictions: likewise, of predictions_{task}.npz; of whole images.
        confusion: rows of confusion_{task}.csv; of whole images.
    """

    classes: list[dict[str, Any]] | None
    reliability: dict[str, dict[str, Any]] | None
    matches: StoredMatches | None = None
    predictions: StoredPredictions | None = None
    confusion: list[dict[str, str]] | None = None


def read_task(folder: Path, task: str, missing: list[str]) -> TaskFiles:
    """Of instances; what the folder lacks is added to `missing`, a sentence each."""
    classes, reliability, matches = (
        folder / f"per_class_{task}.json",
        folder / f"calibration_{task}.json",
        folder / f"matches_{task}.npz",
    )
    for path, purpose in ((classes, "results per class"), (matches, "intervals")):
        if not path.is_file():
            missing.append(f"No {purpose} of {TASK_NAMES[task]}: {path.name} is missing.")
    return TaskFiles(
        classes=read_per_class_json(classes) if classes.is_file() else None,
        reliability=json.loads(reliability.read_text())["groups"]
        if reliability.is_file()
        else None,
        matches=read_matches(matches) if matches.is_file() else None,
    )


def read_image_task(folder: Path, missing: list[str]) -> TaskFiles:
    """Of whole images; likewise."""
    found = {}
    for name, purpose in (
        (f"per_class_{IMAGE_TASK}.json", "results per class"),
        (f"calibration_{IMAGE_TASK}.json", "calibration"),
        (f"predictions_{IMAGE_TASK}.npz", "comparison"),
        (f"confusion_{IMAGE_TASK}.csv", "confusion"),
    ):
        found[name] = folder / name
        if not found[name].is_file():
            missing.append(f"No {purpose}: {name} is missing.")
    classes, reliability, predictions, confusion = found.values()
    return TaskFiles(
        classes=read_per_class_json(classes) if classes.is_file() else None,
        reliability=json.loads(reliability.read_text())["groups"]
        if reliability.is_file()
        else None,
        predictions=_read_predictions(predictions, missing),
        confusion=read_csv(confusion) or None,
    )


def _read_predictions(path: Path, missing: list[str]) -> StoredPredictions | None:
    if not path.is_file():
        return None
    try:
        return read_predictions(path)
    except ValueError as error:
        missing.append(f"No comparison: {error}")
        return None


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
