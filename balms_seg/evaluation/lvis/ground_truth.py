"""Reads LVIS- or COCO-style annotations into the arrays that the evaluation needs.

Symbols: I images, K classes, n annotations. Images and classes are indexed by ascending id.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

from balms_seg.class_statistics.annotation_counts import (
    check_annotation_content,
    read_annotation_json,
    sorted_categories,
)
from balms_seg.evaluation.lvis.federated import federated_rules
from balms_seg.evaluation.lvis.masks import segmentation_to_rle

logger = logging.getLogger(__name__)

#: LVIS's frequency letters, rarest first, with the names that tables use.
FREQUENCY_GROUPS = {"r": "rare", "c": "common", "f": "frequent"}


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Validated ground truth of one evaluation set.

    Attributes:
        image_ids: (I,) ids of the json, ascending.
        image_sizes: (I,) pairs (height, width) in pixels; None where the json gives no size.
        category_ids: (K,) ids of the json, ascending.
        class_names: (K,) names.
        frequency: (K,) "r", "c" or "f"; "" where the group is unknown.
        image_counts: (K,) the json's `image_count`; None where it has none.
        is_verified: (I, K) bool, the class has ground truth in the image or is a verified negative.
        is_not_exhaustive: (I, K) bool, unmatched detections of the class are ignored in the image.
        images: (n,) int64 image index of each annotation.
        classes: (n,) int64 class index.
        areas: (n,) float64 in square pixels.
        is_ignored: (n,) bool, the json's `ignore` flag.
        boxes: (n, 4) float64, x, y, width, height in pixels.
        segmentations: (n,) polygons or RLE as in the json; None where there is none.
    """

    image_ids: tuple[Any, ...]
    image_sizes: tuple[tuple[int, int] | None, ...]
    category_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    frequency: tuple[str, ...]
    image_counts: tuple[int | None, ...]
    is_verified: np.ndarray
    is_not_exhaustive: np.ndarray
    images: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    is_ignored: np.ndarray
    boxes: np.ndarray
    segmentations: tuple[Any, ...]

    @property
    def num_images(self) -> int:
        """Number of images, I."""
        return len(self.image_ids)

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.category_ids)

    def instance_counts(self) -> np.ndarray:
        """Annotations per class, (K,) int64, without ignored ones."""
        return np.bincount(self.classes[~self.is_ignored], minlength=self.num_classes)


def load_ground_truth(
    source: str | Path | Mapping[str, Any],
    *,
    class_frequency: Mapping[int, str] | None = None,
) -> GroundTruth:
    """Load annotations, with a default for each LVIS field that a COCO-style json lacks.

    Defaults, of which one warning tells:
        frequency: the json's own field wins, then `class_frequency`; without either the class
            belongs to no group.
        neg_category_ids: every class without an annotation in the image, as COCO counts it.
        not_exhaustive_category_ids: none.

    LVIS knows no crowd regions. An annotation with `iscrowd`, or one whose polygons all have fewer
    than three points, is dropped and its class counts as not exhaustively annotated in the image.
    Annotations without area are dropped, as lvis-api does.

    Args:
        source: path of the json, or its content.
        class_frequency: "r", "c" or "f" per category id, derived from the training set.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the json cannot be read, lacks a required part or contradicts itself.
    """
    content, source = _content_of(source)
    images = sorted(content["images"], key=lambda image: image["id"])
    categories = sorted_categories(content, source=source)
    _check_ids_differ(images, "images", source)
    _check_ids_differ([a for a in content["annotations"] if "id" in a], "annotations", source)
    image_index = {image["id"]: index for index, image in enumerate(images)}
    class_index = {category["id"]: index for index, category in enumerate(categories)}
    _check_references(content["annotations"], image_index, class_index)

    usable: list[dict[str, Any]] = []
    unusable: list[dict[str, Any]] = []
    for entry in content["annotations"]:
        (unusable if _is_unusable(entry) else usable).append(entry)
    sizes = tuple(_image_size(image) for image in images)
    boxes = np.array([_box(a, sizes[image_index[a["image_id"]]]) for a in usable]).reshape(-1, 4)
    areas = np.array([_area(a, sizes[image_index[a["image_id"]]]) for a in usable], dtype=float)
    annotations = [a for a, area in zip(usable, areas, strict=True) if area > 0]
    positive_images = _as_index(image_index[a["image_id"]] for a in annotations)
    positive_classes = _as_index(class_index[a["category_id"]] for a in annotations)

    is_verified, is_not_exhaustive = federated_rules(
        images,
        class_index,
        positives=(positive_images, positive_classes),
        not_exhaustive=(
            _as_index(image_index[a["image_id"]] for a in unusable),
            _as_index(class_index[a["category_id"]] for a in unusable),
        ),
    )
    frequency = _frequency(categories, class_frequency or {})
    _warn_of_defaults(images, frequency, unusable)
    return GroundTruth(
        image_ids=tuple(image["id"] for image in images),
        image_sizes=sizes,
        category_ids=tuple(category["id"] for category in categories),
        class_names=tuple(str(c.get("name", c["id"])) for c in categories),
        frequency=frequency,
        image_counts=tuple(category.get("image_count") for category in categories),
        is_verified=is_verified,
        is_not_exhaustive=is_not_exhaustive,
        images=positive_images,
        classes=positive_classes,
        areas=areas[areas > 0],
        is_ignored=np.array([bool(a.get("ignore", 0)) for a in annotations], dtype=bool),
        boxes=boxes[areas > 0],
        segmentations=tuple(a.get("segmentation") or None for a in annotations),
    )


def _content_of(source: str | Path | Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The json's content and what to call it in errors."""
    if isinstance(source, Mapping):
        content, name = source, "The ground truth"
        check_annotation_content(content, source=name)
    else:
        content, name = read_annotation_json(source), str(source)
    if not isinstance(content.get("images"), list):
        raise ValueError(
            f"{name} has no list of 'images'; expected a COCO- or LVIS-style json with 'images', "
            "'annotations' and 'categories'."
        )
    return content, name


def _check_ids_differ(entries: list[dict[str, Any]], what: str, source: str) -> None:
    if len({entry["id"] for entry in entries}) < len(entries):
        times = Counter(entry["id"] for entry in entries)
        repeated = [id_ for id_, number in times.items() if number > 1]
        raise ValueError(
            f"Expected {what} of different ids in {source}, but {len(repeated)} ids occur more "
            f"than once, the first {repeated[:5]}; were two files joined without new ids?"
        )


def _check_references(
    annotations: list[dict[str, Any]], image_index: Mapping[Any, int], class_index: Mapping
) -> None:
    for key, index in (("image_id", image_index), ("category_id", class_index)):
        unknown = [a for a in annotations if a[key] not in index]
        if unknown:
            named = ", ".join(f"{a.get('id')} ({key} {a[key]})" for a in unknown[:5])
            raise ValueError(
                f"Expected every annotation's {key} to be listed in the json, but "
                f"{len(unknown)} are not; the first annotations: {named}."
            )


def _is_unusable(annotation: Mapping[str, Any]) -> bool:
    """Tell whether it is a crowd region or has polygons of fewer than three points only."""
    segmentation = annotation.get("segmentation")
    is_degenerate = (
        isinstance(segmentation, list) and len(segmentation) > 0 and max(map(len, segmentation)) < 6
    )
    return bool(annotation.get("iscrowd", 0)) or is_degenerate


def _image_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    if "height" not in image or "width" not in image:
        return None
    return int(image["height"]), int(image["width"])


def _box(annotation: Mapping[str, Any], size: tuple[int, int] | None) -> list[float]:
    if "bbox" in annotation:
        return [float(value) for value in annotation["bbox"]]
    _require_segmentation(annotation)
    return mask_utils.toBbox(segmentation_to_rle(annotation["segmentation"], size)).tolist()


def _area(annotation: Mapping[str, Any], size: tuple[int, int] | None) -> float:
    if "area" in annotation:
        return float(annotation["area"])
    if annotation.get("segmentation"):
        return float(mask_utils.area(segmentation_to_rle(annotation["segmentation"], size)))
    width, height = _box(annotation, size)[2:]
    return width * height


def _require_segmentation(annotation: Mapping[str, Any]) -> None:
    if not annotation.get("segmentation"):
        raise ValueError(
            f"Expected 'bbox' or 'segmentation' in annotation {annotation.get('id')}, but it has "
            f"{sorted(annotation)}; correct the json."
        )


def _as_index(values: Iterable[int]) -> np.ndarray:
    return np.fromiter(values, dtype=np.int64)


def _frequency(
    categories: list[dict[str, Any]], class_frequency: Mapping[int, str]
) -> tuple[str, ...]:
    letters = tuple(
        str(category.get("frequency") or class_frequency.get(category["id"]) or "")
        for category in categories
    )
    wrong = sorted({letter for letter in letters if letter and letter not in FREQUENCY_GROUPS})
    if wrong:
        raise ValueError(f"Expected a class frequency of 'r', 'c' or 'f', but got {wrong}.")
    return letters


def _warn_of_defaults(
    images: list[dict[str, Any]], frequency: tuple[str, ...], unusable: list[dict[str, Any]]
) -> None:
    parts = []
    without_negatives = sum("neg_category_ids" not in image for image in images)
    if without_negatives:
        parts.append(
            f"{without_negatives} of {len(images)} images have no 'neg_category_ids', so every "
            "class without an annotation there counts as verified absent and a detection of it "
            "as false"
        )
    without_exhaustive = sum("not_exhaustive_category_ids" not in image for image in images)
    if without_exhaustive:
        parts.append(
            f"{without_exhaustive} images have no 'not_exhaustive_category_ids', so their "
            "annotations count as complete"
        )
    without_group = frequency.count("")
    if without_group:
        parts.append(
            f"{without_group} of {len(frequency)} classes have no frequency group, so they "
            "belong to none of APr, APc, APf"
        )
    if unusable:
        parts.append(
            f"{len(unusable)} annotations are crowd regions or have no polygon of three points; "
            "they are dropped and their class counts as not exhaustive in the image"
        )
    if parts:
        logger.warning("Ground truth: %s.", "; ".join(parts))
