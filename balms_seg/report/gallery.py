"""Rare objects that were found and that were not: ground truth beside each run's prediction."""

from __future__ import annotations

import base64
import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from balms_seg.annotations import ImageFolder, image_content
from balms_seg.evaluation.lvis.ground_truth import GroundTruth
from balms_seg.evaluation.output.result_table import format_score
from balms_seg.report.findings import GROUPS, ClassFinding
from balms_seg.report.instance_drawing import draw_instances
from balms_seg.report.object_fates import FATES, ObjectFates
from balms_seg.report.pictures import drawn_categories, read_image
from balms_seg.report.suspicious_labels import SuspiciousLabel

logger = logging.getLogger(__name__)

_TILE_PX = 260
_SMALLEST_CROP_PX = 96
_CONTEXT = 2.2  # side of the crop in sides of the object
_JPEG_QUALITY = 82
_RIGHT = FATES.index("right")


@dataclass(frozen=True)
class GalleryEntry:
    """One object.

    Attributes:
        class_name: of the object.
        group: frequency group of the class.
        file_name: of the image.
        truth: data URI of the crop with the annotation.
        predictions: per run, data URI of the same crop with its detections.
        outcomes: per run, in words.
        is_right: per run.
    """

    class_name: str
    group: str
    file_name: str
    truth: str
    predictions: list[str]
    outcomes: list[str]
    is_right: list[bool]


@dataclass(frozen=True, eq=False)
class GallerySource:
    """What pictures are made of.

    Attributes:
        ground_truth: the annotations of the task.
        folder: where the images lie.
        fates: per run.
        findings: per run and class.
        pixel_range: INPUT.PIXEL_RANGE of the runs.
    """

    ground_truth: GroundTruth
    folder: ImageFolder
    fates: Sequence[ObjectFates]
    findings: Sequence[Sequence[ClassFinding]]
    pixel_range: Sequence[float] = ()


def choose_objects(source: GallerySource, number: int, *, right: bool) -> list[int]:
    """Positions in the fates of tail objects that all runs get right, or that some get wrong.

    One of each class before a second of any; of failures the classes of lowest AP and objects that
    the runs disagree on come first, of successes those found with the highest score.
    """
    first = source.fates[0]
    groups = np.array([finding.row["group"] or "" for finding in source.findings[0]])[first.classes]
    tail = next((group for group in GROUPS if (groups == group).any()), None)
    is_right = np.stack([fates.fates == _RIGHT for fates in source.fates])
    wanted = is_right.all(axis=0) if right else ~is_right.all(axis=0)
    by_class: dict[int, list[int]] = defaultdict(list)
    for position in np.flatnonzero(wanted & (groups == (tail or ""))).tolist():
        by_class[int(first.classes[position])].append(position)

    def order(position: int) -> tuple[bool, float]:
        score = first.scores[position]
        return not is_right[:, position].any(), -(0.0 if math.isnan(score) else score)

    queues = [sorted(positions, key=order) for positions in by_class.values()]
    ap = [source.findings[0][int(first.classes[queue[0]])].ap for queue in queues]
    ranks = sorted(range(len(queues)), key=lambda i: -ap[i] if right else ap[i])
    rounds = max(map(len, queues), default=0)
    chosen = [queues[i][turn] for turn in range(rounds) for i in ranks if turn < len(queues[i])]
    return chosen[:number]


def make_entry(source: GallerySource, position: int) -> GalleryEntry | None:
    """Pictures and words of one object; None, with a warning, where its image cannot be read."""
    truth = source.ground_truth
    index = int(source.fates[0].annotations[position])
    finding = source.findings[0][int(truth.classes[index])]
    own = {
        "category_id": truth.category_ids[truth.classes[index]],
        "bbox": truth.boxes[index].tolist(),
        "segmentation": truth.segmentations[index],
    }
    return _entry(
        source,
        truth.image_ids[truth.images[index]],
        truth.boxes[index],
        [own],
        [
            [] if fates.speakers[position] is None else [fates.speakers[position]]
            for fates in source.fates
        ],
        class_name=str(finding.row["name"]),
        group=finding.row["group"] or "",
        outcomes=[_outcome(source, fates, position) for fates in source.fates],
        is_right=[bool(fates.fates[position] == _RIGHT) for fates in source.fates],
    )


def make_label_entry(source: GallerySource, label: SuspiciousLabel) -> GalleryEntry | None:
    """As `make_entry`, of a label, where there may be no annotation."""
    if label.position is not None:
        return make_entry(source, label.position)
    scores = [detection["score"] for detection in label.detections]
    return _entry(
        source,
        label.image_id,
        np.array(label.box),
        [],
        [[detection] for detection in label.detections],
        class_name="nothing annotated",
        group="",
        outcomes=[f"{label.predicted_as}, score {format_score(score)}" for score in scores],
        is_right=[False] * len(scores),
    )


def _entry(
    source: GallerySource,
    image_id: int | str,
    box: np.ndarray,
    annotated: Sequence[Any],
    detected: Sequence[Sequence[Any]],
    *,
    class_name: str,
    group: str,
    outcomes: list[str],
    is_right: list[bool],
) -> GalleryEntry | None:
    """Pictures around a box: what is annotated there, and what each run has detected."""
    truth = source.ground_truth
    image = image_content(truth.annotations, truth.image_ids.index(image_id))
    try:
        pixels = read_image(source.folder.path(image["file_name"]), source.pixel_range)
    except OSError as error:
        logger.warning("A picture is left out of the report: %s", error)
        return None
    categories = drawn_categories(truth)
    crop, scale = _crop_around(box, pixels.shape[:2])

    def picture(shown: Sequence[Any]) -> str:
        return _data_uri(draw_instances(pixels, shown, categories, scale=scale)[crop])

    return GalleryEntry(
        class_name=class_name,
        group=group,
        file_name=str(image.get("file_name", image_id)),
        truth=picture(annotated),
        predictions=[picture(shown) for shown in detected],
        outcomes=outcomes,
        is_right=is_right,
    )


def _outcome(source: GallerySource, fates: ObjectFates, position: int) -> str:
    fate = FATES[fates.fates[position]]
    score, iou = fates.scores[position], fates.ious[position]
    name = source.ground_truth.class_names[fates.predicted[position]]
    return {
        "right": f"right, score {format_score(score)}, IoU {iou:.2f}",
        "confused": f"taken for {name}, score {format_score(score)}",
        "misplaced": "found in the wrong place or size",
        "not found": "not found",
    }[fate]


def _crop_around(box: np.ndarray, size: tuple[int, int]) -> tuple[tuple[slice, slice], float]:
    """Rows and columns of the enlarged image around a box, and the enlargement."""
    side = max(_CONTEXT * max(box[2], box[3]), _SMALLEST_CROP_PX)
    scale = _TILE_PX / side
    spans = []
    for center, length in ((box[1] + box[3] / 2, size[0]), (box[0] + box[2] / 2, size[1])):
        own = min(side, length)
        start = float(np.clip(center - own / 2, 0, length - own))
        spans.append(slice(round(start * scale), round((start + own) * scale)))
    return (spans[0], spans[1]), scale


def _data_uri(pixels: np.ndarray) -> str:
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
