"""What can be wrong with an image classification set before the first iteration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from balms_seg.annotations.annotation_file import shortened
from balms_seg.data.images.image_files import missing_addresses, read_image
from balms_seg.data.preflight.image_file_checks import NUM_OPENED, describe_missing

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def image_set_problems(
    cfg: CfgNode, records: Sequence[dict[str, Any]], *, class_names: Sequence[str], trained_on: bool
) -> Iterator[str]:
    """Sentences on what has to be put right.

    Labels are all looked at, files all looked up; of the images a sample is decoded.

    Args:
        cfg: configuration of an image classifier.
        records: of the set.
        class_names: of the set.
        trained_on: whether every class needs an image.
    """
    if not records:
        yield "it holds no image."
        return
    yield from _label_problems(cfg, records, class_names, trained_on)
    missing = missing_addresses(record["file_name"] for record in records)
    if missing:
        yield describe_missing(missing, len(records), None)
    absent = set(missing)
    present = [record["file_name"] for record in records if record["file_name"] not in absent]
    if not trained_on or cfg.INPUT.IMAGES.UNREADABLE == "stop":
        yield from _unreadable(present, cfg.INPUT.PIXEL_RANGE)


def _label_problems(
    cfg: CfgNode, records: Sequence[dict[str, Any]], class_names: Sequence[str], trained_on: bool
) -> Iterator[str]:
    num_classes = cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES
    labels = np.array([record["label"] for record in records])
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        first = records[outside[0]]
        yield (
            f"{outside.size} of {len(labels)} labels lie outside 0 to {num_classes - 1}, the first "
            f"is {first['label']} of {first['file_name']}; correct the labels (they count from 0) "
            f"or MODEL.IMAGE_CLASSIFIER.NUM_CLASSES, which is {num_classes}."
        )
        return
    if trained_on and len(class_names) < num_classes:
        yield (
            f"it has {len(class_names)} classes but MODEL.IMAGE_CLASSIFIER.NUM_CLASSES is "
            f"{num_classes}; set it to {len(class_names)}."
        )
        return
    empty = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if trained_on and empty.size and cfg.MODEL.IMAGE_CLASSIFIER.EMPTY_CLASSES == "error":
        yield (
            f"{empty.size} of {num_classes} classes have no training image: "
            f"{shortened([class_names[i] for i in empty])}; add images, or set "
            "MODEL.IMAGE_CLASSIFIER.EMPTY_CLASSES to floor to count each as one image."
        )


def _unreadable(addresses: Sequence[str], pixel_range: Sequence[float]) -> Iterator[str]:
    step = max(1, len(addresses) / NUM_OPENED)
    for index in range(min(NUM_OPENED, len(addresses))):
        address = addresses[int(index * step)]
        try:
            read_image(address, pixel_range=pixel_range)
        except OSError as error:
            yield str(error)
