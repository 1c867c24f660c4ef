"""What two evaluated classifiers differ in besides their accuracy: classes, images, groups.

Groups of one run serve all that are compared with it; here is said where that is not their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from balms_seg.annotations import shortened
from balms_seg.class_statistics import CLASSIFICATION_GROUPS


@dataclass(frozen=True)
class TrainedClasses:
    """The classes that a run was trained on.

    Attributes:
        run: what to call it.
        groups: frequency group by name of the class; None where unknown.
        image_counts: likewise, training images.
    """

    run: str
    groups: Mapping[str, str | None]
    image_counts: Mapping[str, int | None]

    @classmethod
    def from_rows(cls, run: str, rows: Sequence[Mapping[str, Any]]) -> TrainedClasses:
        """Of rows of per_class_classification.json."""
        return cls(
            run,
            {str(row["name"]): row["group"] for row in rows},
            {str(row["name"]): row["train_image_count"] for row in rows},
        )

    def spans(self) -> str:
        """The fewest and most training images of a class in each group, in words."""
        found = []
        for group in reversed(CLASSIFICATION_GROUPS):
            members = [name for name, own in self.groups.items() if own == group]
            known = [count for name in members if (count := self.image_counts[name]) is not None]
            if known:
                found.append(f"{group} {min(known)}-{max(known)}")
        return ", ".join(found) or "no groups"


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
    if moved:
        found.append(
            f"Groups are those of {first.run} (training images a class: {first.spans()}) for "
            f"{second.run} too; its own evaluation had {second.spans()}, and {len(moved)} of "
            f"{len(shared)} classes in other groups."
        )
    return found
