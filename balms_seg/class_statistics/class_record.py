"""What a model has to know of its classes, as plain values that travel in its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from balms_seg.annotations.class_limits import check_class_names
from balms_seg.class_statistics.frequency_groups import CLASSIFICATION_GROUPS, LVIS_GROUPS
from balms_seg.class_statistics.pasted_counts import PastedCounts
from balms_seg.class_statistics.statistics import ClassStatistics

_OF_IMAGES = {*CLASSIFICATION_GROUPS}


@dataclass(frozen=True)
class ClassRecord:
    """The classes of a training set, in the model's order. K: classes.

    Attributes:
        names: K.
        category_ids: K ids of the json; empty where there is none.
        groups: K names of frequency groups.
        image_counts: K training images.
        instance_counts: K training instances.
        thresholds: K scores from which on a detection counts; empty where none were chosen.
        pasted_instances: K, as `PastedCounts` has them; empty where nothing was pasted.
        pasted_images: K, likewise.
        sampled_counts: K, as `ClassStatistics` has them; empty where nothing asked for them.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...] = ()
    groups: tuple[str, ...] = ()
    image_counts: tuple[int, ...] = ()
    instance_counts: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()
    pasted_instances: tuple[float, ...] = ()
    pasted_images: tuple[float, ...] = ()
    sampled_counts: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check that every column is of the same classes."""
        check_class_names(self.names, "the checkpoint")
        for name, column in vars(self).items():
            if column and len(column) != len(self.names):
                raise ValueError(
                    f"Expected {name} of each of the {len(self.names)} classes, but got "
                    f"{len(column)}; the checkpoint's record of its classes is damaged."
                )

    @classmethod
    def from_statistics(
        cls,
        statistics: ClassStatistics,
        *,
        category_ids: Sequence[int] = (),
        thresholds: Sequence[float] = (),
    ) -> ClassRecord:
        """Of a training set."""
        pasted, sampled = statistics.pasted, statistics.sampled_counts
        return cls(
            names=tuple(statistics.class_names),
            category_ids=tuple(category_ids),
            groups=tuple(statistics.group_names[group] for group in statistics.group_ids),
            image_counts=tuple(statistics.image_counts.tolist()),
            instance_counts=tuple(statistics.instance_counts.tolist()),
            thresholds=tuple(thresholds),
            pasted_instances=() if pasted is None else tuple(pasted.instances.tolist()),
            pasted_images=() if pasted is None else tuple(pasted.images.tolist()),
            sampled_counts=() if sampled is None else tuple(sampled.tolist()),
        )

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> ClassRecord:
        """What `to_plain` returned."""
        return cls(**{name: tuple(column) for name, column in values.items()})

    def to_statistics(self) -> ClassStatistics:
        """Statistics of the training set, to predict with.

        Its number of images is known of whole images alone; of annotated ones, on which several
        classes may be, it is at most the sum that is taken.
        """
        pasted = None
        if self.pasted_instances:
            pasted = PastedCounts(np.array(self.pasted_instances), np.array(self.pasted_images))
        group_names = CLASSIFICATION_GROUPS if {*self.groups} <= _OF_IMAGES else LVIS_GROUPS
        return ClassStatistics(
            np.array(self.image_counts),
            np.array(self.instance_counts),
            sum(self.image_counts),
            self.names,
            group_names,
            np.array([group_names.index(group) for group in self.groups]),
            np.array(self.sampled_counts) if self.sampled_counts else None,
            empty_classes="told",
            pasted=pasted,
        )

    def to_plain(self) -> dict[str, list]:
        """Lists of text and numbers."""
        return {name: list(column) for name, column in vars(self).items()}
