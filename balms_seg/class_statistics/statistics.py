"""How often each class occurs in the training set, and what follows from it.

K: classes, N: images with at least one annotation that is not a crowd.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from balms_seg.annotations import Annotations
from balms_seg.class_statistics.annotation_counts import (
    count_per_class,
    flatten_annotations,
    read_metadata_counts,
)
from balms_seg.class_statistics.checks import (
    apply_empty_class_policy,
    checked_counts,
    checked_labels,
    checked_names,
    checked_repeat_factors,
    countable,
)
from balms_seg.class_statistics.frequency_groups import (
    CLASSIFICATION_GROUPS,
    LVIS_GROUPS,
    assign_groups,
)
from balms_seg.class_statistics.pasted_counts import PastedCounts

_EMPTY_CLASS_POLICIES = ("floor", "told", "error")


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """Class counts of a training set; the arrays are read-only.

    Attributes:
        image_counts: (K,) int64 images with a non-crowd instance of the class; may be 0.
        instance_counts: (K,) int64 non-crowd instances; may be 0.
        num_images: N.
        class_names: K names.
        group_names: frequency groups, rarest first.
        group_ids: (K,) int64 index into `group_names`.
        sampled_counts: (K,) float64 instances times their image's repeat factor, and pasted ones.
        empty_classes: what a class without a sample means to `prior_counts` and `frequency`:
            "floor" counts it as one sample (half an image in `frequency`), with a warning; "told"
            does so without, since it was given in training; "error" raises.
        pasted: what copy-paste adds; None: nothing.
    """

    image_counts: np.ndarray
    instance_counts: np.ndarray
    num_images: int
    class_names: tuple[str, ...]
    group_names: tuple[str, ...]
    group_ids: np.ndarray
    sampled_counts: np.ndarray | None = None
    empty_classes: str = "floor"
    pasted: PastedCounts | None = None

    def __post_init__(self) -> None:
        num_classes = len(self.class_names)
        for name in ("image_counts", "instance_counts", "group_ids"):
            object.__setattr__(self, name, checked_counts(name, getattr(self, name), num_classes))
        if (drawn := self.sampled_counts) is not None:
            drawn = checked_counts("sampled_counts", drawn, num_classes, np.float64)
            object.__setattr__(self, "sampled_counts", drawn)
        if num_classes == 0:
            raise ValueError("Expected at least one class, but got none.")
        if self.empty_classes not in _EMPTY_CLASS_POLICIES:
            expected = f"Expected empty_classes to be one of {_EMPTY_CLASS_POLICIES}"
            raise ValueError(f"{expected}, but got {self.empty_classes!r}.")

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def frequency(self) -> np.ndarray:
        """(K,) float64 share of images with the class, clamped to [0.5 / N, 1 - 0.5 / N].

        What copy-paste adds counts in share and N.
        """
        if self.num_images == 0:
            raise ValueError("The data set has no annotation, so class frequency is undefined.")
        apply_empty_class_policy(self.class_names, self.instance_counts, self.empty_classes)
        images, total = self.image_counts, float(self.num_images)
        if self.pasted is not None:
            images, total = images + self.pasted.images, total + self.pasted.num_images
        return np.clip(images / total, 0.5 / total, 1 - 0.5 / total)

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """Class ids of each frequency group, rarest group first."""
        return {
            name: np.flatnonzero(self.group_ids == i) for i, name in enumerate(self.group_names)
        }

    def prior_counts(self, kind: str) -> np.ndarray:
        """Return positive counts to use as a class prior; what is pasted counts, too.

        Args:
            kind: "image", "instance", or "sampled" (instances weighted by repeat factors).

        Returns:
            (K,) float64, every entry positive.

        Raises:
            ValueError: `kind` is unknown, "sampled" was asked for without repeat factors, or a
                class has no sample and the policy is "error".
        """
        images, instances = self.image_counts, self.instance_counts
        if self.pasted is not None:
            images, instances = images + self.pasted.images, instances + self.pasted.instances
        counts = {"image": images, "instance": instances, "sampled": self.sampled_counts}
        if kind not in counts:
            raise ValueError(f"Expected a prior among {tuple(counts)}, but got {kind!r}.")
        if (chosen := counts[kind]) is None:
            raise ValueError(
                'The prior "sampled" needs the images\' repeat factors; pass repeat_factors when '
                "the statistics are computed, or choose image or instance."
            )
        apply_empty_class_policy(self.class_names, self.instance_counts, self.empty_classes)
        return np.where(chosen > 0, chosen, 1.0).astype(np.float64)

    @classmethod
    def from_dataset_dicts(
        cls,
        dataset_dicts: Sequence[Mapping[str, Any]],
        num_classes: int,
        *,
        class_names: Sequence[str] | None = None,
        frequency: Sequence[str | None] | None = None,
        repeat_factors: np.ndarray | None = None,
        empty_classes: str = "floor",
    ) -> ClassStatistics:
        """Count the annotations of detectron2 dataset dicts.

        Args:
            dataset_dicts: dicts with "annotations" (contiguous category ids), or classification
                dicts with "label", which get the classification groups.
            num_classes: K.
            class_names: K names; class ids as text by default.
            frequency: K group letters "r", "c", "f" that win over the counts; None where unknown.
            repeat_factors: (len(dataset_dicts),) how often the sampler repeats each image.
            empty_classes: see the class.

        Raises:
            ValueError: a class id is out of range, or an argument has the wrong length.
        """
        image_index, class_id = flatten_annotations(dataset_dicts)
        is_classification = any("label" in d for d in dataset_dicts[:1])
        return cls._from_arrays(
            image_index,
            class_id,
            num_classes,
            class_names=class_names,
            group_names=CLASSIFICATION_GROUPS if is_classification else LVIS_GROUPS,
            frequency=frequency,
            repeat_factors=checked_repeat_factors(repeat_factors, len(dataset_dicts)),
            empty_classes=empty_classes,
        )

    @classmethod
    def from_json(
        cls,
        source: str | Path | Annotations,
        *,
        with_masks: bool | None = None,
        empty_classes: str = "floor",
        trust_annotations: bool = False,
    ) -> ClassStatistics:
        """Count what can be trained on of a COCO- or LVIS-style json.

        Categories in the order of their ids become classes 0 to K - 1; their "frequency" field,
        where present, decides the group.

        Args:
            source: the json's path, or what was read from it.
            with_masks: whether masks are learned, so that an instance whose mask has no extent
                does not count. None: whether the json has masks.
            empty_classes: see the class.
            trust_annotations: take a file that looks as if it meant something else.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no annotation file, or has no list of annotations.
        """
        annotations, counted = countable(source, with_masks, is_trusted=trust_annotations)
        return cls._from_arrays(
            annotations.images[counted].astype(np.int64),
            annotations.classes[counted].astype(np.int64),
            annotations.num_classes,
            class_names=annotations.class_names,
            group_names=LVIS_GROUPS,
            frequency=annotations.frequency,
            repeat_factors=None,
            empty_classes=empty_classes,
        )

    @classmethod
    def from_labels(
        cls,
        labels: Sequence[int] | np.ndarray,
        num_classes: int,
        *,
        class_names: Sequence[str] | None = None,
        repeat_factors: np.ndarray | None = None,
        empty_classes: str = "floor",
    ) -> ClassStatistics:
        """Count the (N,) class ids of a classification set; the rest as in `from_dataset_dicts`."""
        class_id = checked_labels(labels)
        return cls._from_arrays(
            np.arange(len(class_id)),
            class_id,
            num_classes,
            class_names=class_names,
            group_names=CLASSIFICATION_GROUPS,
            frequency=None,
            repeat_factors=checked_repeat_factors(repeat_factors, len(class_id)),
            empty_classes=empty_classes,
        )

    @classmethod
    def from_metadata(cls, metadata: Any, *, empty_classes: str = "floor") -> ClassStatistics:
        """Read the counts that detectron2's metadata of an LVIS set carry.

        Args:
            metadata: has `class_image_count`, a list of {"id", "image_count"} with an optional
                "instance_count"; optionally `num_images`, `thing_classes` and `class_frequency`.
            empty_classes: see the class.

        Returns:
            The statistics. Without instance counts, image counts stand in, with a warning.

        Raises:
            ValueError: there are no counts, or the number of images is neither given nor known.
        """
        image_counts, instance_counts, num_images = read_metadata_counts(metadata)
        frequency = getattr(metadata, "class_frequency", None)
        return cls(
            image_counts,
            instance_counts,
            num_images,
            checked_names(getattr(metadata, "thing_classes", None), len(image_counts)),
            LVIS_GROUPS,
            assign_groups(image_counts, LVIS_GROUPS, frequency),
            empty_classes=empty_classes,
        )

    @classmethod
    def _from_arrays(
        cls,
        image_index: np.ndarray,
        class_id: np.ndarray,
        num_classes: int,
        *,
        class_names: Sequence[str] | None,
        group_names: tuple[str, ...],
        frequency: Sequence[str | None] | None,
        repeat_factors: np.ndarray | None,
        empty_classes: str,
    ) -> ClassStatistics:
        image_counts, instance_counts, num_images = count_per_class(
            image_index, class_id, num_classes
        )
        sampled_counts = None
        if repeat_factors is not None:
            sampled_counts = np.bincount(class_id, repeat_factors[image_index], num_classes)
        return cls(
            image_counts,
            instance_counts,
            num_images,
            checked_names(class_names, num_classes),
            group_names,
            assign_groups(image_counts, group_names, frequency),
            sampled_counts,
            empty_classes,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for json."""
        return {
            "image_counts": self.image_counts.tolist(),
            "instance_counts": self.instance_counts.tolist(),
            "num_images": self.num_images,
            "class_names": list(self.class_names),
            "group_names": list(self.group_names),
            "group_ids": self.group_ids.tolist(),
            "sampled_counts": None if self.sampled_counts is None else self.sampled_counts.tolist(),
            "pasted_counts": None if self.pasted is None else self.pasted.instances.tolist(),
            "empty_classes": self.empty_classes,
        }
