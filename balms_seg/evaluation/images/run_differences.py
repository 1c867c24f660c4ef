"""What two evaluated classifiers differ in besides their accuracy: classes, images, groups.

Groups of one run serve all that are compared with it; here is said where that is not their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from balms_seg.annotations import shortened
from balms_seg.class_statistics import CLASSIFICATION_GROUPS
from balms_seg.class_statistics.frequency_groups import usual_bounds


@dataclass(frozen=True)
class TrainedClasses:
    """The classes that a run was trained on.

    Attributes:
        run: what to call it.
        groups: frequency group by name of the class; None where unknown.
        image_counts: likewise, training images.
        bounds: largest numbers of training images in the groups few and medium; None where the
            configuration is not known.
    """

    run: str
    groups: Mapping[str, str | None]
    image_counts: Mapping[str, int | None]
    bounds: tuple[int, int] | None

    @classmethod
    def from_rows(
        cls, run: str, rows: Sequence[Mapping[str, Any]], config: str | Mapping[str, Any] | None
    ) -> TrainedClasses:
        """Of rows of per_class_classification.json and a configuration."""
        return cls(
            run,
            {str(row["name"]): row["group"] for row in rows},
            {str(row["name"]): row["train_image_count"] for row in rows},
            group_bounds(config),
        )

    def _bounds_in_words(self) -> str:
        return f"bounds {self.bounds[0]} and {self.bounds[1]}" if self.bounds else "unknown bounds"


def group_bounds(config: str | Mapping[str, Any] | None) -> tuple[int, int] | None:
    """The largest numbers of training images in the groups few and medium; None if not known.

    Args:
        config: resolved configuration of a run, as yaml or a mapping.
    """
    content = yaml.safe_load(config) if isinstance(config, str) else config
    if not isinstance(content, Mapping):
        return None
    options = content.get("TEST", {}).get("LONG_TAILED", {})
    few, medium = options.get("GROUP_BOUNDS") or usual_bounds(CLASSIFICATION_GROUPS)
    return few, medium


def describe_differences(first: TrainedClasses, second: TrainedClasses) -> list[str]:
    """Sentences on what makes two runs less comparable; none where nothing does."""
    found = []
    only_first = [name for name in first.groups if name not in second.groups]
    only_second = [name for name in second.groups if name not in first.groups]
    if only_first or only_second:
        found.append(
            f"{first.run} and {second.run} know different classes; only {first.run}: "
            f"{shortened(only_first) or 'none'}; only {second.run}: "
            f"{shortened(only_second) or 'none'}."
        )
    shared = [name for name in first.groups if name in second.groups]
    others = [
        f"{name} ({first.image_counts[name]} and {second.image_counts[name]})"
        for name in shared
        if None not in (first.image_counts[name], second.image_counts[name])
        and first.image_counts[name] != second.image_counts[name]
    ]
    if others:
        found.append(
            f"{first.run} and {second.run} were trained on different images: of {len(others)} "
            f"of {len(shared)} classes they had other numbers, {shortened(others)}."
        )
    moved = [name for name in shared if first.groups[name] != second.groups[name]]
    if moved or first.bounds != second.bounds:
        found.append(
            f"Groups are those of {first.run} ({first._bounds_in_words()}: the largest numbers of "
            f"training images in few and medium) for {second.run} too; its own evaluation had "
            f"{second._bounds_in_words()}, and {len(moved)} of {len(shared)} classes in other "
            "groups."
        )
    return found
