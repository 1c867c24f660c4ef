"""The training set of a run: its images, their classes, and how often each class occurs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog

from balms_seg.annotations import shortened
from balms_seg.class_statistics import ClassStatistics
from balms_seg.class_statistics.frequency_groups import group_by_bounds
from balms_seg.class_statistics.pasted import with_pasted
from balms_seg.class_statistics.pasted_counts import PastesPerImage
from balms_seg.data.instances.builtin import Load, Records, load_dataset_dicts
from balms_seg.data.instances.dataset_dicts import DatasetDicts, join_dicts
from balms_seg.wording import counted

Repeats = Callable[[Records, int], np.ndarray]  # N records, K -> (N,) expected draws


@dataclass(frozen=True)
class ImageNumbers:
    """How many images there are, and how many of them show nothing; as text for people.

    Attributes:
        trained_on: images that are drawn.
        empty: of these, images without an object.
        left_out: images without an object that are not drawn.
    """

    trained_on: int
    empty: int = 0
    left_out: int = 0

    def __str__(self) -> str:
        if self.left_out:
            return (
                f"{self.trained_on} of {counted(self.trained_on + self.left_out, 'image')} "
                f"({self.left_out} without an object left out: DATALOADER.FILTER_EMPTY_ANNOTATIONS)"
            )
        empty = f" ({self.empty} without an object)" * bool(self.empty)
        return counted(self.trained_on, "image") + empty


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What is known of the images that are trained on; built once and handed on.

    Attributes:
        names: of the registered sets.
        dicts: N dataset dicts, one set after the other.
        statistics: of these images: class names, counts, groups.
        category_ids: the annotations' ids by contiguous class id; None for whole images.
        num_left_out: images of the sets that are not among the dicts, as they show no object.
    """

    names: tuple[str, ...]
    dicts: Records
    statistics: ClassStatistics
    category_ids: tuple[int, ...] | None = None
    num_left_out: int = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names."""
        return self.statistics.class_names

    @property
    def num_classes(self) -> int:
        """K."""
        return self.statistics.num_classes

    @property
    def image_numbers(self) -> ImageNumbers:
        """Images that are trained on, and those without an object."""
        number = len(self.dicts)
        return ImageNumbers(number, number - self.statistics.num_images, self.num_left_out)

    @classmethod
    def count(
        cls,
        names: Sequence[str],
        dicts: Records,
        class_names: Sequence[str],
        *,
        empty_classes: str,
        repeats: Repeats | None = None,
        pastes_per_image: PastesPerImage | None = None,
        group_bounds: tuple[int, int] | None = None,
        num_left_out: int = 0,
    ) -> TrainingSet:
        """Count the classes of what was read.

        Args:
            names: of the registered sets.
            dicts: their images.
            class_names: K names.
            empty_classes: see `ClassStatistics`.
            repeats: how often the sampler draws each image, for counts of what is drawn; None: the
                statistics have none.
            pastes_per_image: what copy-paste adds to an image; None: nothing.
            group_bounds: largest number of images of a class in the first and in the second group,
                as the evaluation has them; None: the usual ones, or the json's own groups.
            num_left_out: images that were left out of `dicts`, as they show no object.
        """
        repeat_factors = None if repeats is None else repeats(dicts, len(class_names))
        statistics = ClassStatistics.from_dataset_dicts(
            dicts,
            len(class_names),
            class_names=class_names,
            frequency=_class_frequency(names),
            repeat_factors=repeat_factors,
            empty_classes=empty_classes,
        )
        statistics = with_pasted(
            statistics, pastes_per_image, len(dicts), repeat_factors=repeat_factors
        )
        ids = MetadataCatalog.get(names[0]).get("thing_dataset_id_to_contiguous_id")
        category_ids = None if ids is None else tuple(sorted(ids, key=ids.__getitem__))
        whole = cls(tuple(names), dicts, statistics, category_ids, num_left_out)
        return whole if group_bounds is None else whole.grouped(group_bounds)

    def grouped(self, bounds: tuple[int, int]) -> TrainingSet:
        """The same with classes in other groups.

        Args:
            bounds: as `group_by_bounds` takes them.
        """
        groups = group_by_bounds(self.statistics.image_counts, bounds)
        return replace(self, statistics=replace(self.statistics, group_ids=groups))


def load_instance_dicts(
    names: Sequence[str],
    *,
    filter_empty: bool = True,
    with_masks: bool = True,
    load: Load = load_dataset_dicts,
) -> tuple[Records, int]:
    """The images of registered sets of annotated instances, one set after the other.

    Args:
        names: of the sets.
        filter_empty: leave out images without an annotation that is trained on.
        with_masks: whether masks are wanted.
        load: what reads a set.

    Returns:
        The images, and how many were left out.

    Raises:
        ValueError: no set is named, sets disagree on the classes, or no image is left.
    """
    require_names(names)
    dicts: Records = join_dicts([load(name) for name in names])
    shared_classes(names)
    if isinstance(dicts, DatasetDicts):
        dicts = dicts.with_masks(with_masks)
    reason, num_images = unused_regions(dicts), len(dicts)
    if filter_empty:
        if isinstance(dicts, DatasetDicts):
            dicts = dicts.with_instances()
        else:
            dicts = [each for each in dicts if _has_instance(each)]
    if not dicts:
        raise ValueError(f"No image with a usable annotation in {', '.join(names)}{reason}.")
    return dicts, num_images - len(dicts)


def require_names(names: Sequence[str]) -> None:
    """Raise ValueError where no training set is named."""
    if not names:
        raise ValueError("DATASETS.TRAIN is empty; name at least one registered data set.")


def unused_regions(dicts: Sequence[dict[str, Any]]) -> str:
    """What a set without anything to train on holds instead, to end a sentence with."""
    files = dicts.annotations if isinstance(dicts, DatasetDicts) else ()
    reasons = {
        "crowd regions (iscrowd)": sum(int(file.is_crowd.sum()) for file in files),
        "ignored regions (ignore)": sum(int(file.is_ignored.sum()) for file in files),
    }
    found = " and ".join(f"{number} {what}" for what, number in reasons.items() if number)
    return f"; there are {found}, which are not trained on" if found else ""


def shared_classes(names: Sequence[str]) -> list[str]:
    """Class names that registered sets of annotated instances share.

    Raises:
        ValueError: two sets name different classes, or the same in another order.
    """
    first, *others = names
    classes = list(MetadataCatalog.get(first).thing_classes)
    for name in others:
        difference = describe_difference(classes, MetadataCatalog.get(name).thing_classes)
        if difference:
            raise ValueError(
                f"Training sets {first!r} and {name!r} differ in classes: {difference}"
            )
    return classes


def are_labelled(records: Records) -> bool:
    """Whether these are whole images with one label each, not images of annotated instances."""
    return len(records) > 0 and "label" in records[0]


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
    return (
        f"{len(expected)} and {counted(len(got), 'class')}; only in the first: "
        f"{shortened(missing) or 'none'}; only in the second: {shortened(added) or 'none'}."
    )


def _has_instance(record: dict[str, Any]) -> bool:
    return any(
        not annotation.get("iscrowd", 0) and not annotation.get("ignore", 0)
        for annotation in record["annotations"]
    )


def _class_frequency(names: Sequence[str]) -> list[str] | None:
    """The json's own groups, where the training sets have them and agree."""
    groups = [MetadataCatalog.get(name).get("class_frequency") for name in names]
    return groups[0] if all(group == groups[0] for group in groups) else None
