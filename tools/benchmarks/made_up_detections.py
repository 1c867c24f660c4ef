"""Made-up LVIS-like annotations and detections, for evaluators to be measured on."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import numpy as np

_PART = 100_000  # detections
HEIGHT_PX, WIDTH_PX = 480, 640


def made_up_lvis(
    num_images: int,
    detections_per_image: int,
    *,
    num_classes: int = 1203,
    with_masks: bool = False,
    seed: int = 0,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Federated ground truth with a long tail, and detections of it.

    An image has 1 to 8 classes, each with 1 to 6 objects, 5 verified negatives and one class that
    is not exhaustively annotated. Of the detections half lie near objects, the rest anywhere; a
    tenth has another class than its object. Masks are octagons in their boxes.

    Returns:
        content: of an LVIS json.
        detections: in the LVIS results format.
    """
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, num_classes + 1)
    share = rng.permutation(share / share.sum())
    images, annotations, detections = [], [], []
    for image_id in range(1, num_images + 1):
        chosen = rng.choice(num_classes, 14, replace=False, p=share) + 1
        present = chosen[: rng.integers(1, 9)]
        images.append(
            {
                "id": image_id,
                "height": HEIGHT_PX,
                "width": WIDTH_PX,
                "neg_category_ids": chosen[8:13].tolist(),
                "not_exhaustive_category_ids": chosen[:1].tolist() if image_id % 3 == 0 else [],
            }
        )
        classes = np.repeat(present, rng.integers(1, 7, len(present)))
        boxes = _random_boxes(rng, len(classes))
        polygons = [[p] for p in _octagons(boxes).tolist()]
        for class_id, box, polygon in zip(classes.tolist(), boxes.tolist(), polygons, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": class_id,
                    "bbox": box,
                    "area": box[2] * box[3] * (7 / 8 if with_masks else 1),
                    "segmentation": polygon,
                }
            )
        detections.extend(
            _detections(rng, image_id, classes, boxes, chosen, detections_per_image, with_masks)
        )
    frequency = np.array(list("rcf"))[np.digitize(share, np.quantile(share, [0.28, 0.66]))]
    categories = [
        {"id": k, "name": f"class {k}", "frequency": str(letter)}
        for k, letter in enumerate(frequency, start=1)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def _random_boxes(rng: np.random.Generator, number: int) -> np.ndarray:
    sides = np.exp(rng.uniform(np.log(8), np.log(300), (number, 2)))
    corners = rng.uniform(0, [WIDTH_PX, HEIGHT_PX] - sides)
    return np.concatenate([corners, sides], axis=1).round(2)


def _octagons(boxes: np.ndarray) -> np.ndarray:
    """(n, 16) corners x, y, ..., a quarter of each side cut off."""
    x = np.array([0.25, 0.75, 1, 1, 0.75, 0.25, 0, 0])
    y = np.array([0, 0, 0.25, 0.75, 1, 1, 0.75, 0.25])
    corners = np.stack([boxes[:, :1] + boxes[:, 2:3] * x, boxes[:, 1:2] + boxes[:, 3:] * y], axis=2)
    return corners.reshape(-1, 16)


def _detections(
    rng: np.random.Generator,
    image_id: int,
    classes: np.ndarray,
    boxes: np.ndarray,
    chosen: np.ndarray,
    number: int,
    with_masks: bool,
) -> list[dict[str, Any]]:
    source = rng.integers(len(boxes), size=number)
    noise = rng.normal(0, 1, (number, 4)) * rng.choice([0.03, 0.15], (number, 1))
    found = boxes[source] + noise * boxes[source][:, [2, 3, 2, 3]]
    is_near = rng.random(number) < 0.5
    found = np.where(is_near[:, None], found, _random_boxes(rng, number))
    found[:, 2:] = np.maximum(found[:, 2:], 2)
    found[:, :2] = np.clip(found[:, :2], 0, [WIDTH_PX - 4, HEIGHT_PX - 4])
    found[:, 2:] = np.minimum(found[:, 2:], [WIDTH_PX, HEIGHT_PX] - found[:, :2])
    found = found.round(2)
    is_right = rng.random(number) < 0.9
    found_classes = np.where(is_right, classes[source], rng.choice(chosen, number))
    scores = (rng.random(number) ** np.where(is_near, 2, 6)).round(4)
    detections = [
        {"image_id": image_id, "category_id": k, "bbox": box, "score": score}
        for k, box, score in zip(
            found_classes.tolist(), found.tolist(), scores.tolist(), strict=True
        )
    ]
    if with_masks:
        import pycocotools.mask as mask_utils

        rles = mask_utils.frPyObjects(_octagons(found).tolist(), HEIGHT_PX, WIDTH_PX)
        for detection, rle in zip(detections, rles, strict=True):
            detection["segmentation"] = rle
            del detection["bbox"]  # lvis-api would take the area from it
    return detections


def write_data(path: Path, task: str, arguments: argparse.Namespace) -> None:
    """Make the data of a benchmark and write it in parts, so that pickle's memory stays small."""
    content, detections = made_up_lvis(
        arguments.images,
        arguments.detections,
        num_classes=arguments.classes,
        with_masks=task == "segm",
    )
    with path.open("wb") as file:
        pickle.dump(content, file)
        for start in range(0, len(detections), _PART):
            pickle.dump(detections[start : start + _PART], file)


def read_data(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth and detections that `write_data` wrote."""
    detections: list[dict[str, Any]] = []
    size = path.stat().st_size
    with path.open("rb") as file:
        content = pickle.load(file)
        while file.tell() < size:
            detections += pickle.load(file)
    return content, detections
