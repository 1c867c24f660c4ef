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

from balms_seg.evaluation.lvis.ground_truth import GroundTruth

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
    keys = ("image_id", "category_id", "score", _KEY_OF_TASK[iou_type])
    copies = [{key: found[key] for key in keys} for found in detections]
    return run_lvis_api(_as_json(ground_truth), copies, iou_type, max_detections=max_detections)


def run_lvis_api(
    content: dict[str, Any],
    detections: list[dict[str, Any]],
    iou_type: str,
    *,
    max_detections: int | None = 300,
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


def _as_json(ground_truth: GroundTruth) -> dict[str, Any]:
    """The ground truth with the defaults filled in that lvis-api expects in the json."""
    category_ids = np.array(ground_truth.category_ids)
    has_annotation = np.zeros_like(ground_truth.is_verified)
    has_annotation[ground_truth.images, ground_truth.classes] = True
    images = []
    for index, image_id in enumerate(ground_truth.image_ids):
        height, width = ground_truth.image_sizes[index] or (None, None)
        negative = ground_truth.is_verified[index] & ~has_annotation[index]
        not_exhaustive = ground_truth.is_not_exhaustive[index]
        images.append(
            {
                "id": image_id,
                "height": height,
                "width": width,
                "neg_category_ids": category_ids[negative].tolist(),
                "not_exhaustive_category_ids": category_ids[not_exhaustive].tolist(),
            }
        )
    annotations = [
        {
            "id": number,  # from 1: lvis-api takes a match to id 0 for none
            "image_id": ground_truth.image_ids[image],
            "category_id": ground_truth.category_ids[class_],
            "bbox": box,
            "area": area,
            "ignore": int(is_ignored),
            "segmentation": segmentation,
        }
        for number, (image, class_, box, area, is_ignored, segmentation) in enumerate(
            zip(
                ground_truth.images.tolist(),
                ground_truth.classes.tolist(),
                ground_truth.boxes.tolist(),
                ground_truth.areas.tolist(),
                ground_truth.is_ignored.tolist(),
                ground_truth.segmentations,
                strict=True,
            ),
            start=1,
        )
    ]
    # Its groups are not read, so a class without one may stand in any.
    categories = [
        {"id": id_, "name": name, "frequency": letter or "f"}
        for id_, name, letter in zip(
            ground_truth.category_ids,
            ground_truth.class_names,
            ground_truth.frequency,
            strict=True,
        )
    ]
    return {"images": images, "annotations": annotations, "categories": categories}
