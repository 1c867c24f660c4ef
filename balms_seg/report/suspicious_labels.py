"""Annotations that the model contradicts most: mistakes of the model, or of the annotations.

Of another class, not annotated at all, or nothing is found where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from balms_seg.annotations import image_content
from balms_seg.csv_files import csv_file
from balms_seg.evaluation.lvis.ground_truth import GroundTruth
from balms_seg.evaluation.output.result_table import NOT_AVAILABLE, format_score
from balms_seg.report.object_fates import FATES, ObjectFates
from balms_seg.report.unannotated import Unannotated, found_by_all

CSV_FILE = "suspicious_labels.csv"
ANOTHER_CLASS, NOT_ANNOTATED, NOT_FOUND = "another class", "not annotated", "not found"
KINDS = (ANOTHER_CLASS, NOT_ANNOTATED, NOT_FOUND)
_LEAST_RECALL = 0.5  # of a class, below which an object that is not found is nothing unusual
_COLUMNS = (
    *("image_id", "annotation_id", "file_name", "kind", "annotated_as", "predicted_as"),
    *("score", "iou", "class_recall", "x", "y", "width", "height"),
)


@dataclass(frozen=True)
class SuspiciousLabel:
    """What every run says otherwise than the annotations.

    Attributes:
        kind: of `KINDS`.
        annotated_as: class of the annotation; None where there is none.
        predicted_as: what the first run says; None where it says nothing.
        score: of the run that is least sure; nan where nothing is found.
        iou: of the first run's detection with the annotation; nan where one is absent.
        class_recall: share of the objects of the annotation's class that are found right.
        image_id: of the annotations.
        file_name: of the image.
        box: x, y, width, height in px, of the annotation, or else of the detection.
        annotation_id: of the annotations; None where there is none, or it has no id.
        position: of the object in the fates; None where there is no annotation.
        detections: one a run, where there is no annotation.
    """

    kind: str
    annotated_as: str | None
    predicted_as: str | None
    score: float
    iou: float
    class_recall: float
    image_id: int | str
    file_name: str
    box: tuple[float, ...]
    annotation_id: int | str | None = None
    position: int | None = None
    detections: Sequence[Mapping[str, Any]] = ()


def find_suspicious_labels(
    ground_truth: GroundTruth,
    fates: Sequence[ObjectFates],
    unannotated: Sequence[Unannotated] = (),
) -> list[SuspiciousLabel]:
    """What all runs contradict, the surest first.

    Objects for which detections of another class speak, and detections without an annotation, by
    score; then objects that nothing covers, though most of their class are found, by their class's
    recall and their size.

    Args:
        ground_truth: of the task.
        fates: per run, of the same objects.
        unannotated: per run, likewise.
    """
    found = [*_of_another_class(ground_truth, fates)]
    found += [_without_annotation(ground_truth, group) for group in found_by_all(unannotated)]
    found.sort(key=lambda label: -label.score)
    return found + _not_found(ground_truth, fates)


def _of_another_class(
    ground_truth: GroundTruth, fates: Sequence[ObjectFates]
) -> list[SuspiciousLabel]:
    contradicted = np.all([own.fates == FATES.index("confused") for own in fates], axis=0)
    scores = np.min([own.scores for own in fates], axis=0)
    positions = np.flatnonzero(contradicted)
    order = positions[np.argsort(-scores[positions], kind="stable")]
    recalls = _class_recalls(ground_truth, fates)
    return [
        _of_object(
            ground_truth, fates[0], ANOTHER_CLASS, position, float(scores[position]), recalls
        )
        for position in order.tolist()
    ]


def _not_found(ground_truth: GroundTruth, fates: Sequence[ObjectFates]) -> list[SuspiciousLabel]:
    recalls = _class_recalls(ground_truth, fates)
    own = recalls[fates[0].classes]
    is_not_found = np.all([one.fates == FATES.index("not found") for one in fates], axis=0)
    positions = np.flatnonzero(is_not_found & (own >= _LEAST_RECALL))
    areas = ground_truth.areas[fates[0].annotations[positions]]
    order = positions[np.lexsort([-areas, -own[positions]])]
    return [
        _of_object(ground_truth, fates[0], NOT_FOUND, position, float("nan"), recalls)
        for position in order.tolist()
    ]


def _class_recalls(ground_truth: GroundTruth, fates: Sequence[ObjectFates]) -> np.ndarray:
    """Share of each class's objects that are right, of the run that finds fewest; (K,)."""
    counts = np.stack([own.counts(ground_truth.num_classes) for own in fates])
    right = counts[:, :, FATES.index("right")].min(axis=0)
    return right / np.maximum(counts[0].sum(axis=1), 1)


def _of_object(
    ground_truth: GroundTruth,
    first: ObjectFates,
    kind: str,
    position: int,
    score: float,
    recalls: np.ndarray,
) -> SuspiciousLabel:
    annotation, class_ = int(first.annotations[position]), int(first.classes[position])
    place, names = int(ground_truth.images[annotation]), ground_truth.class_names
    return SuspiciousLabel(
        kind=kind,
        annotated_as=names[class_],
        predicted_as=names[first.predicted[position]] if kind == ANOTHER_CLASS else None,
        score=score,
        iou=float(first.ious[position]) if kind == ANOTHER_CLASS else float("nan"),
        class_recall=float(recalls[class_]),
        image_id=ground_truth.image_ids[place],
        file_name=_file_name(ground_truth, place),
        box=tuple(ground_truth.boxes[annotation].tolist()),
        annotation_id=ground_truth.segmentations.annotation_id(annotation),
        position=position,
    )


def _without_annotation(
    ground_truth: GroundTruth, group: Sequence[tuple[Unannotated, int]]
) -> SuspiciousLabel:
    first, row = group[0]
    place = int(first.images[row])
    return SuspiciousLabel(
        kind=NOT_ANNOTATED,
        annotated_as=None,
        predicted_as=ground_truth.class_names[int(first.classes[row])],
        score=min(float(own.scores[i]) for own, i in group),
        iou=float("nan"),
        class_recall=float("nan"),
        image_id=ground_truth.image_ids[place],
        file_name=_file_name(ground_truth, place),
        box=tuple(first.boxes[row].tolist()),
        detections=[own.detections[i] for own, i in group],
    )


def _file_name(ground_truth: GroundTruth, place: int) -> str:
    return str(image_content(ground_truth.annotations, place).get("file_name", NOT_AVAILABLE))


def write_suspicious_labels(labels: Sequence[SuspiciousLabel], path: Path) -> Path:
    """Write one line a label, in a folder that is made where missing; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with csv_file(path) as writer:
        writer.writerow(_COLUMNS)
        for one in labels:
            numbers = [
                format_score(one.score, 4),
                format_score(one.iou, 3),
                format_score(one.class_recall, 3),
            ]
            said = [one.annotated_as or NOT_AVAILABLE, one.predicted_as or NOT_AVAILABLE]
            box = [f"{value:.1f}" for value in one.box]
            known = NOT_AVAILABLE if one.annotation_id is None else one.annotation_id
            writer.writerow([one.image_id, known, one.file_name, one.kind, *said, *numbers, *box])
    return path
