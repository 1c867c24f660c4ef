"""What can be wrong with an image classification set before the first iteration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from detectron2.data import MetadataCatalog

from balms_seg.annotations import shortened
from balms_seg.data.images.feature_files import holds_features, load_features
from balms_seg.data.images.image_files import missing_addresses, unreadable_remedy
from balms_seg.data.images.image_records import warn_once
from balms_seg.data.images.labelled_images import (
    evaluation_classes,
    image_classes,
    load_labelled_images,
)
from balms_seg.data.images.repeated_images import describe_repeated
from balms_seg.data.instances.builtin import Load
from balms_seg.data.preflight.header_checks import image_problems
from balms_seg.data.preflight.image_file_checks import describe_missing
from balms_seg.wording import agreeing, counted

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def image_set_problems(
    cfg: CfgNode, records: Sequence[dict[str, Any]], *, name: str, trained_on: bool
) -> Iterator[str]:
    """Sentences on what has to be put right about the images of a set.

    Files are all looked up, headers all read; of the images a sample is decoded. Features are read.

    Args:
        cfg: configuration of an image classifier.
        records: of the set.
        name: of the set.
        trained_on: whether images that cannot be read may be skipped.
    """
    if not records:
        yield "it holds no image."
        return
    try:
        if holds_features(records):
            yield from _feature_problems(cfg, records, trained_on=trained_on)
            return
    except ValueError as error:
        yield str(error)
        return
    present, problem = look_up(records, MetadataCatalog.get(name).thing_classes, name=name)
    if problem:
        yield problem
    if not trained_on or cfg.INPUT.IMAGES.UNREADABLE == "stop":
        remedy = unreadable_remedy(training=trained_on)
        for problem in image_problems(present, name=name, pixel_range=cfg.INPUT.PIXEL_RANGE):
            yield f"{problem.rstrip('.')}; {remedy}"


def look_up(
    records: Sequence[dict[str, Any]], class_names: Sequence[str], *, name: str
) -> tuple[list[str], str | None]:
    """Look all images up; those under several classes are named in a warning.

    Args:
        records: of a set.
        class_names: K names, which their labels count in.
        name: of the set, for the warning.

    Returns:
        Addresses of the images that are there, and a sentence on those that are not.
    """
    addresses = dict.fromkeys(record["file_name"] for record in records)
    missing = missing_addresses(addresses)
    absent = set(missing)
    repeated = describe_repeated(records, class_names)
    if repeated:
        warn_once(f"Data set {name!r}: {repeated}")
    present = [address for address in addresses if address not in absent]
    return present, describe_missing(missing, len(addresses), None) if missing else None


def _feature_problems(
    cfg: CfgNode, records: Sequence[dict[str, Any]], *, trained_on: bool
) -> Iterator[str]:
    names = list(cfg.INPUT.IMAGES.AUGMENTATIONS)
    if trained_on and names:
        yield (
            f"it is of features, but INPUT.IMAGES.AUGMENTATIONS is {names}, which changes images; "
            "set it to []."
        )
    try:
        load_features(records)
    except (OSError, ValueError) as error:
        yield str(error)


def image_class_problems(
    cfg: CfgNode, names: Sequence[str], *, training: bool, load: Load
) -> Iterator[str]:
    """Sentences on what has to be put right about the classes of all sets.

    Args:
        cfg: configuration of an image classifier.
        names: of all sets, which can be read.
        training: whether DATASETS.TRAIN is among them and needs an image of every class.
        load: what reads a set.
    """
    classes = (
        image_classes(cfg, load=load) if training else evaluation_classes(cfg, names[0], load=load)
    )
    num_classes = cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES
    if training and num_classes and len(classes) != num_classes:
        yield (
            f"Data set {names[0]!r} has {counted(len(classes), 'class')} but "
            f"MODEL.IMAGE_CLASSIFIER.NUM_CLASSES is {num_classes}; set it to {len(classes)}."
        )
        return
    labels: dict[str, set[int]] = {}
    for name in names:
        try:
            records = load_labelled_images(name, classes, load=load)
        except ValueError as error:
            yield str(error)
        else:
            labels[name] = {record["label"] for record in records}
    if not training or len(labels) < len(names):
        return
    if cfg.MODEL.IMAGE_CLASSIFIER.EMPTY_CLASSES == "error":
        for own in (list(cfg.DATASETS.TRAIN), [cfg.META.DATASET] if cfg.META.DATASET else []):
            yield from _empty_classes(own, set().union(*(labels[name] for name in own)), classes)


def _empty_classes(
    names: Sequence[str], has_images: set[int], classes: Sequence[str]
) -> Iterator[str]:
    empty = [own for label, own in enumerate(classes) if label not in has_images]
    if names and empty:
        yield (
            f"{len(empty)} of {counted(len(classes), 'class')} "
            f"{agreeing(len(empty), 'has', 'have')} no training image in {', '.join(names)}: "
            f"{shortened(empty)}; add images, take the classes out, or set "
            "MODEL.IMAGE_CLASSIFIER.EMPTY_CLASSES to floor to count each as one image."
        )
