"""The classes of a checkpoint, and whether data sets have the same in the same order."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from detectron2.data import MetadataCatalog

from balms_seg.class_statistics.class_record import ClassRecord
from balms_seg.data.images.labelled_images import image_classes
from balms_seg.data.training_set import TrainingSet, describe_difference
from balms_seg.engine.jobs.choice import build_job

if TYPE_CHECKING:
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)

CLASSES_KEY = "classes"


def class_record(cfg: CfgNode, training_set: TrainingSet) -> ClassRecord:
    """What checkpoints of a run say of its classes."""
    return ClassRecord.from_statistics(
        training_set.statistics,
        category_ids=training_set.category_ids or (),
        thresholds=cfg.MODEL.ROI_BOX_HEAD.get("CLASS_THRESHOLDS", ()),
    )


def loaded_classes(record: Mapping[str, Any]) -> ClassRecord | None:
    """What a checkpoint says of its classes; None where it says nothing."""
    return ClassRecord.from_plain(record[CLASSES_KEY]) if CLASSES_KEY in record else None


def check_classes(cfg: CfgNode, record: Mapping[str, Any]) -> None:
    """Stop where a data set would be labelled with other classes than the model has.

    Args:
        cfg: names the data sets; those not registered, or whose json is gone, are passed over.
        record: plain values of the checkpoint; without classes nothing is checked.

    Raises:
        ValueError: a data set has other classes, or the same in another order. (Labels of whole
            images count in the run's classes by name, so these alone are looked at.)
    """
    classes = loaded_classes(record)
    if classes is None:
        return
    _tell_of_thresholds(cfg, classes)
    if build_job(cfg).of_images:
        _check_image_classes(cfg, classes)
        return
    for name in dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        names = _names_at_hand(name)
        difference = describe_difference(list(classes.names), names) if names else ""
        if difference:
            raise ValueError(
                f"The classes that the checkpoint was trained on and those of data set {name!r} "
                f"differ: {difference} Its labels would be wrong; register the set with the "
                "classes in the checkpoint's order."
            )


def _names_at_hand(name: str) -> list[str] | None:
    """Of a data set's classes; None where nothing says them, as where a model has moved alone."""
    try:
        return MetadataCatalog.get(name).get("thing_classes") if name in MetadataCatalog else None
    except FileNotFoundError:
        return None


def _tell_of_thresholds(cfg: CfgNode, classes: ClassRecord) -> None:
    given = tuple(cfg.MODEL.ROI_BOX_HEAD.get("CLASS_THRESHOLDS", ()))
    if given and classes.thresholds and given != classes.thresholds:
        logger.warning(
            "MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS holds, which differs from the thresholds in the "
            "checkpoint."
        )


def _check_image_classes(cfg: CfgNode, classes: ClassRecord) -> None:
    try:
        own = image_classes(cfg)
    except (OSError, KeyError, ValueError):
        return  # nothing is at hand that could differ
    difference = describe_difference(list(classes.names), own)
    if difference:
        raise ValueError(
            f"The classes that the checkpoint was trained on and those of this run differ: "
            f"{difference} Give the checkpoint's in DATASETS.CLASSES, or, to learn others, load "
            "weights without a classifier."
        )
