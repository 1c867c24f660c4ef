"""The training images that a config names, and their class statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from detectron2.data import MetadataCatalog

from balms_seg.class_statistics.frequency_groups import group_by_bounds
from balms_seg.data.images.labelled_images import image_classes, load_labelled_images
from balms_seg.data.instances.builtin import load_dataset_dicts
from balms_seg.data.instances.dataset_dicts import DatasetDicts, join_dicts
from balms_seg.job import classifies_images, empty_class_policy

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from balms_seg.class_statistics import ClassStatistics


def get_training_dicts(cfg: CfgNode) -> Sequence[dict[str, Any]]:
    """The dataset dicts of DATASETS.TRAIN, one set after the other.

    Images without a non-crowd annotation are left out if DATALOADER.FILTER_EMPTY_ANNOTATIONS.

    Raises:
        ValueError: no set is named, sets disagree on the classes, or no image is left.
    """
    names = list(cfg.DATASETS.TRAIN)
    if not names:
        raise ValueError("DATASETS.TRAIN is empty; name at least one registered data set.")
    dicts: Sequence[dict[str, Any]]
    if classifies_images(cfg):
        classes = image_classes(cfg)
        dicts = [record for name in names for record in load_labelled_images(name, classes)]
    else:
        dicts = join_dicts([load_dataset_dicts(name) for name in names])
        training_classes(cfg)
    if isinstance(dicts, DatasetDicts):
        dicts = dicts.with_masks(cfg.MODEL.MASK_ON)
    reason = unused_regions(dicts)
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        if isinstance(dicts, DatasetDicts):
            dicts = dicts.with_instances()
        else:
            dicts = [each for each in dicts if _has_instance(each)]
    if not dicts:
        raise ValueError(f"No image with a usable annotation in {', '.join(names)}{reason}.")
    return dicts


def unused_regions(dicts: Sequence[dict[str, Any]]) -> str:
    """What a set without anything to train on holds instead, to end a sentence with."""
    files = dicts.annotations if isinstance(dicts, DatasetDicts) else ()
    reasons = {
        "crowd regions (iscrowd)": sum(int(file.is_crowd.sum()) for file in files),
        "ignored regions (ignore)": sum(int(file.is_ignored.sum()) for file in files),
    }
    found = " and ".join(f"{number} {what}" for what, number in reasons.items() if number)
    return f"; there are {found}, which are not trained on" if found else ""


def training_classes(cfg: CfgNode) -> list[str]:
    """Class names that all sets of DATASETS.TRAIN share.

    Raises:
        ValueError: two sets name different classes, or the same in another order.
    """
    if classifies_images(cfg):
        return image_classes(cfg)
    first, *others = cfg.DATASETS.TRAIN
    classes = list(MetadataCatalog.get(first).thing_classes)
    for name in others:
        difference = describe_difference(classes, MetadataCatalog.get(name).thing_classes)
        if difference:
            raise ValueError(
                f"Training sets {first!r} and {name!r} differ in classes: {difference}"
            )
    return classes


def training_statistics(cfg: CfgNode) -> ClassStatistics:
    """Class statistics of the concatenated training sets.

    The counts are those of the images that are trained on. Where a method's setting PRIOR is
    "sampled" they include instances weighted by the sampler's repeat factors.

    Raises:
        ValueError: as `get_training_dicts`; also a class without a sample where
            MODEL.ROI_BOX_HEAD.EMPTY_CLASSES is "error".
    """
    from balms_seg.class_statistics import ClassStatistics
    from balms_seg.sampling import expected_repeats

    dicts, classes = get_training_dicts(cfg), training_classes(cfg)
    factors = None
    if any(node.get("PRIOR") == "sampled" for node in cfg.MODEL.METHODS.values()):
        factors = expected_repeats(cfg, dicts, num_classes=len(classes))
    statistics = ClassStatistics.from_dataset_dicts(
        dicts,
        len(classes),
        class_names=classes,
        frequency=_class_frequency(cfg),
        repeat_factors=factors,
        empty_classes=empty_class_policy(cfg),
    )
    bounds = tuple(cfg.TEST.LONG_TAILED.GROUP_BOUNDS)
    if classifies_images(cfg) and bounds:
        return replace(statistics, group_ids=group_by_bounds(statistics.image_counts, bounds))
    return statistics


def share_frequency_groups(cfg: CfgNode, statistics: ClassStatistics) -> None:
    """Give evaluation sets without `frequency` the training set's groups, as LVIS defines them.

    Without this a set registered from a COCO-style json has no APr, APc and APf.
    """
    letters = [statistics.group_names[group][0] for group in statistics.group_ids]
    for name in cfg.DATASETS.TEST:
        metadata = MetadataCatalog.get(name)
        classes = metadata.get("thing_classes")
        if metadata.get("class_frequency") is None and classes == list(statistics.class_names):
            vars(metadata)["class_frequency"] = letters


def describe_difference(expected: list[str], got: list[str]) -> str:
    """How two lists of class names differ, in words; empty if they do not."""
    expected, got = list(expected), list(got)
    if expected == got:
        return ""
    missing = [name for name in expected if name not in set(got)]
    added = [name for name in got if name not in set(expected)]
    if not missing and not added and len(expected) == len(got):
        index = next(
            i for i, pair in enumerate(zip(expected, got, strict=True)) if len({*pair}) > 1
        )
        return f"another order, from class {index}: {expected[index]!r} and {got[index]!r}."
    from balms_seg.annotations import shortened

    return (
        f"{len(expected)} and {len(got)} classes; only in the first: "
        f"{shortened(missing) or 'none'}; only in the second: {shortened(added) or 'none'}."
    )


def _has_instance(record: dict[str, Any]) -> bool:
    if "label" in record:
        return True
    return any(
        not annotation.get("iscrowd", 0) and not annotation.get("ignore", 0)
        for annotation in record["annotations"]
    )


def _class_frequency(cfg: CfgNode) -> list[str] | None:
    """The json's own groups, where the training sets have them and agree."""
    groups = [MetadataCatalog.get(name).get("class_frequency") for name in cfg.DATASETS.TRAIN]
    return groups[0] if all(group == groups[0] for group in groups) else None
