"""Registered image sets with labels that count in one order of classes, that of the run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from detectron2.data import MetadataCatalog

from balms_seg.data.images.class_names import relabel
from balms_seg.data.instances.builtin import Load, Records, load_dataset_dicts

if TYPE_CHECKING:
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)


def image_classes(cfg: CfgNode, *, load: Load = load_dataset_dicts) -> list[str]:
    """The classes of a run of the image classifier, in the order of its outputs.

    DATASETS.CLASSES, or without it those of the first training set; where that is a list of
    numbers, as many numbers as MODEL.IMAGE_CLASSIFIER.NUM_CLASSES says.

    Raises:
        ValueError: neither is given, or the training set cannot be used.
        FileNotFoundError: the training set is not at hand.
        KeyError: it is not registered.
    """
    if cfg.DATASETS.CLASSES:
        return list(cfg.DATASETS.CLASSES)
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.CLASSES and DATASETS.TRAIN are both empty")
    load(cfg.DATASETS.TRAIN[0])  # the metadata follow from the files
    metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
    num_classes = cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES
    if num_classes and not _has_names(metadata):
        return [str(number) for number in range(num_classes)]
    return list(metadata.thing_classes)


def evaluation_classes(
    cfg: CfgNode, dataset_name: str, *, load: Load = load_dataset_dicts
) -> list[str]:
    """As `image_classes`; with a warning the set's own where no training set is at hand."""
    try:
        return image_classes(cfg, load=load)
    except (FileNotFoundError, KeyError, ValueError) as error:
        logger.warning(
            "The classes of the model are not known (%s), so the labels of %r are taken in the "
            "order of its own classes; give the model's in DATASETS.CLASSES.",
            *(error, dataset_name),
        )
    load(dataset_name)
    return list(MetadataCatalog.get(dataset_name).thing_classes)


def load_labelled_images(
    name: str, class_names: Sequence[str], *, load: Load = load_dataset_dicts
) -> list[dict[str, Any]]:
    """Records of a registered set whose labels count in `class_names`, matched by name.

    Raises:
        ValueError: it has images of other classes, or cannot be read.
        FileNotFoundError: it is not at hand.
        KeyError: it is not registered.
    """
    records = load(name)
    metadata = MetadataCatalog.get(name)
    try:
        return relabel(
            records, metadata.thing_classes, class_names, names_are_known=_has_names(metadata)
        )
    except ValueError as error:
        raise ValueError(f"Data set {name!r}: {error}") from error


def load_image_dicts(
    names: Sequence[str], class_names: Sequence[str], *, load: Load = load_dataset_dicts
) -> Records:
    """The images of registered sets, one set after the other; as `load_labelled_images`."""
    records = [record for n in names for record in load_labelled_images(n, class_names, load=load)]
    if not records:
        raise ValueError(f"No image in {', '.join(names)}.")
    return records


def _has_names(metadata: Any) -> bool:
    return metadata.get("names_are_known", True)
