"""Counting annotations per class."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

# Training images with annotations of LVIS v0.5 and v1, whose metadata list counts only; by classes.
_LVIS_NUM_IMAGES = {1230: 56740, 1203: 99388}


def flatten_annotations(
    dataset_dicts: Sequence[Mapping[str, Any]],
) -> tuple[np.ndarray, np.ndarray]:
    """List every annotation as a pair of numbers, crowd and ignored regions left out.

    Args:
        dataset_dicts: detectron2's dicts with "annotations", or classification dicts with "label",
            which count as one annotation. An image with neither has none.

    Returns:
        image_index: (A,) int64 position in `dataset_dicts`, ascending.
        class_id: (A,) int64 contiguous class id, as found.
    """
    if hasattr(dataset_dicts, "instance_classes"):  # arrays already
        return dataset_dicts.instance_classes()
    per_image = [
        d["annotations"] if "annotations" in d else _label_as_annotations(d) for d in dataset_dicts
    ]
    lengths = np.fromiter(map(len, per_image), np.int64, len(per_image))
    total = int(lengths.sum())
    everything = list(chain.from_iterable(per_image))
    class_id = np.fromiter(map(itemgetter("category_id"), everything), np.int64, total)
    is_crowd = np.fromiter(
        (bool(a.get("iscrowd", 0) or a.get("ignore", 0)) for a in everything), bool, total
    )
    image_index = np.repeat(np.arange(len(per_image)), lengths)
    return image_index[~is_crowd], class_id[~is_crowd]


def _label_as_annotations(dataset_dict: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"category_id": dataset_dict["label"]}] if "label" in dataset_dict else []


def distinct_pairs(
    image_index: np.ndarray, class_id: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which classes each image shows.

    Args:
        image_index: (A,) int64, which image each annotation belongs to.
        class_id: (A,) int64 in [0, num_classes).
        num_classes: K.

    Returns:
        image (P,) and class (P,) int64 of the distinct pairs, ordered by image, then class.

    Raises:
        ValueError: a class id is out of range.
    """
    if class_id.size and (class_id.min() < 0 or class_id.max() >= num_classes):
        raise ValueError(
            f"Expected class ids in [0, {num_classes - 1}], but got values from {class_id.min()} "
            f"to {class_id.max()}; set the number of classes (MODEL.ROI_HEADS.NUM_CLASSES) to that "
            "of the data set, and map the json's category ids to contiguous ones."
        )
    pairs = np.sort(image_index * num_classes + class_id)
    distinct = pairs[np.diff(pairs, prepend=-1) > 0]  # much faster than np.unique
    return np.divmod(distinct, num_classes)


def count_per_class(
    image_index: np.ndarray, class_id: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Count images and instances of each class.

    Args:
        image_index: (A,) int64, which image each annotation belongs to.
        class_id: (A,) int64 in [0, num_classes).
        num_classes: K.

    Returns:
        image_counts: (K,) int64 images that hold the class.
        instance_counts: (K,) int64 annotations of the class.
        num_images: images with at least one annotation.

    Raises:
        ValueError: a class id is out of range.
    """
    images, classes = distinct_pairs(image_index, class_id, num_classes)
    image_counts = np.bincount(classes, minlength=num_classes)
    instance_counts = np.bincount(class_id, minlength=num_classes)
    return image_counts, instance_counts, len(np.unique(images))


def read_metadata_counts(metadata: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Read image counts, instance counts (K,) int64 and the number of images from metadata.

    `ClassStatistics.from_metadata` documents the fields and the errors.
    """
    rows = sorted(getattr(metadata, "class_image_count", None) or [], key=lambda row: row["id"])
    if not rows:
        raise ValueError("The metadata have no class_image_count; count the data set instead.")
    num_images = getattr(metadata, "num_images", None) or _LVIS_NUM_IMAGES.get(len(rows))
    if num_images is None:
        raise ValueError(
            f"The metadata list {len(rows)} classes but not the number of training images; set "
            "metadata.num_images to the images with annotations, or count the data set instead."
        )
    image_counts = np.array([row["image_count"] for row in rows], np.int64)
    if all("instance_count" in row for row in rows):
        instance_counts = np.array([row["instance_count"] for row in rows], np.int64)
    else:
        logger.warning(
            "The metadata have no instance counts; image counts stand in, so that the priors "
            "'image' and 'instance' are the same."
        )
        instance_counts = image_counts
    return image_counts, instance_counts, int(num_images)
