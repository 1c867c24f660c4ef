"""What two evaluated runs differ in besides their results: classes, training images, groups.

Groups of one run serve all that are compared with it; here is said where that is not their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balms_seg.annotations import shortened
from balms_seg.class_statistics import CLASSIFICATION_GROUPS, LVIS_GROUPS
from balms_seg.evaluation.output.per_class import read_per_class_json
from balms_seg.evaluation.predictions.run_folder import contained
from balms_seg.wording import counted

_GROUPS = (*LVIS_GROUPS, *reversed(CLASSIFICATION_GROUPS))  # as tables of either job have them
_ONE_GROUPING = (
    "Evaluate both with one training set and one TEST.LONG_TAILED.GROUP_BOUNDS (balms-seg "
    "evaluate: --training, --group-bounds)."
)


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
        """Of rows of per_class_TASK.json."""
        return cls(
            run,
            {str(row["name"]): row["group"] for row in rows},
            {str(row["name"]): row["train_image_count"] for row in rows},
        )

    def spans(self) -> str:
        """The fewest and most training images of a class in each group, in words."""
        found = []
        for group in _GROUPS:
            members = [name for name, own in self.groups.items() if own == group]
            known = [count for name in members if (count := self.image_counts[name]) is not None]
            if known:
                found.append(f"{group} {min(known)}-{max(known)}")
        return ", ".join(found) or "no groups"


def trained_classes(
    run: Path, per_class: Path, groups: Mapping[str, str | None], name: str, *, outside: bool
) -> TrainedClasses:
    """What an evaluation tells of the classes that its run was trained on.

    Args:
        run: its folder, or a file in it.
        per_class: its results per class, for the counts, which are unknown where the file is
            missing.
        groups: frequency group by name of the class.
        name: what to call the run.
        outside: whether links may lead out of the run.
    """
    rows = []
    if per_class.is_file():
        folder = run if run.is_dir() else per_class.parent
        rows = read_per_class_json(contained(per_class, folder, outside=outside))
    counts = {row["name"]: row["train_image_count"] for row in rows}
    return TrainedClasses(name, groups, {known: counts.get(known) for known in groups})


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
            f"of {counted(len(shared), 'class')} they had other numbers, {shortened(others)}."
        )
    moved = [name for name in shared if first.groups[name] != second.groups[name]]
    if moved:
        cure = "" if others else f" {_ONE_GROUPING}"
        found.append(
            f"Groups are those of {first.run} (training images a class: {first.spans()}) for "
            f"{second.run} too; its own evaluation had {second.spans()}, and {len(moved)} of "
            f"{counted(len(shared), 'class')} in other groups.{cure}"
        )
    return found
