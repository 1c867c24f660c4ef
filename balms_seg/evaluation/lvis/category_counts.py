"""How often each class occurs in training, and the frequency groups that follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from balms_seg.annotations import read_annotations
from balms_seg.class_statistics import ClassStatistics

#: Largest number of training images of a rare and of a common class.
LVIS_GROUP_BOUNDS = (10, 100)


@dataclass(frozen=True)
class TrainingCounts:
    """Training images and instances per category id, where known."""

    images: Mapping[Any, int] = field(default_factory=dict)
    instances: Mapping[Any, int] = field(default_factory=dict)

    @classmethod
    def from_json(cls, path: str | Path, *, trust_annotations: bool = False) -> TrainingCounts:
        """Count a COCO- or LVIS-style json with the training annotations.

        Args:
            path: of the json.
            trust_annotations: take a file that looks as if it meant something else.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it cannot be read or contradicts itself.
        """
        annotations = read_annotations(path)
        counted = ClassStatistics.from_json(annotations, trust_annotations=trust_annotations)
        ids = list(annotations.contiguous_ids)
        return cls(
            images=dict(zip(ids, counted.image_counts.tolist(), strict=True)),
            instances=dict(zip(ids, counted.instance_counts.tolist(), strict=True)),
        )

    @classmethod
    def from_statistics(
        cls, statistics: ClassStatistics, class_ids: Mapping[int, int]
    ) -> TrainingCounts:
        """Take what was counted for a run.

        Args:
            statistics: of the training set.
            class_ids: contiguous class id per category id.
        """
        return cls(
            images={k: int(statistics.image_counts[i]) for k, i in class_ids.items()},
            instances={k: int(statistics.instance_counts[i]) for k, i in class_ids.items()},
        )

    @classmethod
    def from_entries(cls, entries: Iterable[Mapping[str, Any]] | None) -> TrainingCounts:
        """Take counts that categories carry, as LVIS's do.

        Args:
            entries: mappings with id and, where known, image_count and instance_count; the
                categories of a json, or detectron2's `class_image_count`.
        """
        entries = list(entries or ())
        return cls(
            images={e["id"]: e["image_count"] for e in entries if "image_count" in e},
            instances={e["id"]: e["instance_count"] for e in entries if "instance_count" in e},
        )

    def frequency(self, bounds: tuple[int, int] = LVIS_GROUP_BOUNDS) -> dict[Any, str]:
        """Frequency letter per category id: "r" up to the first bound, "c" up to the second.

        Raises:
            ValueError: the bounds do not ascend.
        """
        rare, common = bounds
        if not 0 < rare < common:
            raise ValueError(
                "Expected two ascending numbers above 0 of training images as group bounds, but "
                f"got {rare} and {common}."
            )
        return {
            category_id: "r" if count <= rare else "c" if count <= common else "f"
            for category_id, count in self.images.items()
        }
