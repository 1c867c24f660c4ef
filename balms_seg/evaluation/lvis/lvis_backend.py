"""The second opinion: the same tables from lvis-api, which has to be installed.

lvis-api 0.5.3 reads the alias `np.float`, which numpy 2 no longer has. Its one module gets a view
of numpy that has the alias while it runs; numpy itself stays as it is for everyone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from balms_seg.annotations import MaskKind, annotation_content, canonical_id, image_content
from balms_seg.evaluation.lvis.federated import federated_rules
from balms_seg.evaluation.lvis.ground_truth import LVIS_MAX_DETECTIONS, GroundTruth

logger = logging.getLogger(__name__)

_KEY_OF_TASK = {"bbox": "bbox", "segm": "segmentation"}


class _NumpyWithFloat:
    """numpy, with the alias."""

    float = float

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def precision_recall_of_lvis_api(
    ground_truth: GroundTruth,
    detections: Sequence[Mapping[str, Any]],
    iou_type: str,
    *,
    max_detections: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Precision (T, R, K, A) and recall (T, K, A) of lvis-api, nan without annotations.

    Args:
        ground_truth: annotations.
        detections: as for `evaluate_lvis`, at least one; they are copied.
        iou_type: "bbox" or "segm".
        max_detections: kept per image; None keeps all.

    Raises:
        ModuleNotFoundError: lvis is not installed.
        ValueError: there are no detections, which lvis-api cannot evaluate.
    """
    keys = ("score", _KEY_OF_TASK[iou_type])
    image_numbers, class_numbers = _numbers(ground_truth)
    copies = [
        {key: found[key] for key in keys}
        | {
            "image_id": _number(image_numbers, found["image_id"]),
            "category_id": _number(class_numbers, found["category_id"]),
        }
        for found in detections
    ]
    if ground_truth.is_crowd.any():
        logger.warning(
            "lvis-api reads no iscrowd: it takes the %d crowd regions for objects, unlike the "
            "backend numpy on annotations without LVIS's lists.",
            int(ground_truth.is_crowd.sum()),
        )
    content = _as_json(ground_truth, iou_type)
    return run_lvis_api(content, copies, iou_type, max_detections=max_detections)


def run_lvis_api(
    content: dict[str, Any],
    detections: list[dict[str, Any]],
    iou_type: str,
    *,
    max_detections: int | None = LVIS_MAX_DETECTIONS,
) -> tuple[np.ndarray, np.ndarray]:
    """The same for the content of an LVIS json and detections, both of which lvis-api changes.

    For masks the detections must not have boxes, from which lvis-api would take their areas.
    """
    try:
        import lvis
        import lvis.eval
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Backend 'lvis' needs the package lvis: pip install lvis, or use backend 'numpy'.",
            name="lvis",
        ) from error
    if not detections:
        raise ValueError("lvis-api cannot evaluate without a detection; use backend 'numpy'.")
    reference = lvis.LVIS.__new__(lvis.LVIS)  # its constructor takes a path only
    reference.logger = logging.getLogger("lvis")
    reference.dataset = content
    reference._create_index()
    with _numpy_with_float(lvis.eval):
        results = lvis.LVISResults(
            reference, detections, max_dets=-1 if max_detections is None else max_detections
        )
        evaluation = lvis.LVISEval(reference, results, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    return np.where(precision < 0, np.nan, precision), np.where(recall < 0, np.nan, recall)


@contextmanager
def _numpy_with_float(module: Any) -> Iterator[None]:
    before = module.np
    module.np = _NumpyWithFloat()
    try:
        yield
    finally:
        module.np = before


def _numbers(ground_truth: GroundTruth) -> tuple[dict[Any, int], dict[Any, int]]:
    """A number for each image's and category's id; lvis-api sorts them, which texts may not be."""
    ids = (ground_truth.image_ids, ground_truth.category_ids)
    images, categories = ({one: number for number, one in enumerate(own, start=1)} for own in ids)
    return images, categories


def _number(numbers: Mapping[Any, int], identifier: Any) -> int:
    number = numbers.get(canonical_id(identifier))
    if number is None:
        raise ValueError(f"Expected ids of the ground truth, but a detection has {identifier!r}.")
    return number


def _as_json(ground_truth: GroundTruth, iou_type: str) -> dict[str, Any]:
    """The json as it is, but for ids, with the defaults filled in that lvis-api expects.

    For masks, annotations without one that can be drawn are left out.
    """
    annotations = ground_truth.annotations
    image_numbers, class_numbers = _numbers(ground_truth)
    nothing = np.zeros(0, dtype=np.int64)
    is_negative, _ = federated_rules(annotations, positive=nothing)
    images = [
        {
            **image_content(annotations, image),
            "id": image + 1,
            "neg_category_ids": (np.flatnonzero(negative) + 1).tolist(),
            "not_exhaustive_category_ids": (np.flatnonzero(incomplete) + 1).tolist(),
        }
        for image, (negative, incomplete) in enumerate(
            zip(is_negative, ground_truth.is_not_exhaustive, strict=True)
        )
    ]
    is_flat = annotations.masks.kinds == MaskKind.DEGENERATE
    places = np.flatnonzero(~is_flat) if iou_type == "segm" else np.arange(len(annotations))
    entries = [annotation_content(annotations, place) for place in places.tolist()]
    # From 1: lvis-api takes a match to id 0 for none.
    numbered = [
        {
            **entry,
            "id": number,
            "image_id": image_numbers[entry["image_id"]],
            "category_id": class_numbers[entry["category_id"]],
        }
        for number, entry in enumerate(entries, start=1)
    ]
    # Its groups are not read, so a class without one may stand in any.
    categories = [
        {"id": number, "name": name, "frequency": letter or "f"}
        for number, (name, letter) in enumerate(
            zip(ground_truth.class_names, ground_truth.frequency, strict=True), start=1
        )
    ]
    return {"images": images, "annotations": numbered, "categories": categories}
