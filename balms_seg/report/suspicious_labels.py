"""Annotations that the model contradicts most: mistakes of the model, or of the annotations."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from balms_seg.annotations import image_content
from balms_seg.evaluation.lvis.ground_truth import GroundTruth
from balms_seg.report.object_fates import FATES, ObjectFates

CSV_FILE = "suspicious_labels.csv"
_COLUMNS = (
    *("image_id", "file_name", "annotated_as", "predicted_as", "score", "iou"),
    *("x", "y", "width", "height"),
)


@dataclass(frozen=True)
class SuspiciousLabel:
    """An object that every run is surest to be of another class.

    Attributes:
        position: in the fates.
        annotated_as: class of the annotation.
        predicted_as: what the first run says.
        score: of the run that is least sure.
        iou: of the first run's detection with the annotation.
        image_id: of the annotations.
        file_name: of the image.
        box: x, y, width, height in px.
    """

    position: int
    annotated_as: str
    predicted_as: str
    score: float
    iou: float
    image_id: int | str
    file_name: str
    box: tuple[float, ...]


def find_suspicious_labels(
    ground_truth: GroundTruth, fates: Sequence[ObjectFates]
) -> list[SuspiciousLabel]:
    """Objects for which detections of another class speak in all runs, highest score first.

    Args:
        ground_truth: of the task.
        fates: per run, of the same objects.
    """
    contradicted = np.all([own.fates == FATES.index("confused") for own in fates], axis=0)
    scores = np.min([own.scores for own in fates], axis=0)
    positions = np.flatnonzero(contradicted)
    order = positions[np.argsort(-scores[positions], kind="stable")]
    first, names = fates[0], ground_truth.class_names
    found = []
    for position in order.tolist():
        annotation = int(first.annotations[position])
        place = int(ground_truth.images[annotation])
        image = image_content(ground_truth.annotations, place)
        label = SuspiciousLabel(
            position=position,
            annotated_as=names[first.classes[position]],
            predicted_as=names[first.predicted[position]],
            score=float(scores[position]),
            iou=float(first.ious[position]),
            image_id=ground_truth.image_ids[place],
            file_name=str(image.get("file_name", "n/a")),
            box=tuple(ground_truth.boxes[annotation].tolist()),
        )
        found.append(label)
    return found


def write_suspicious_labels(labels: Sequence[SuspiciousLabel], path: Path) -> None:
    """Write one line a label."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for one in labels:
            box = [f"{value:.1f}" for value in one.box]
            said = (one.annotated_as, one.predicted_as, f"{one.score:.4f}", f"{one.iou:.3f}")
            writer.writerow([one.image_id, one.file_name, *said, *box])
