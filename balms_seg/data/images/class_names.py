"""Classes are known by name: bringing the labels of one set into the order of another's classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from balms_seg.annotations import shortened
from balms_seg.wording import agreeing, counted


def relabel(
    records: Sequence[dict[str, Any]],
    own_names: Sequence[str],
    class_names: Sequence[str],
    *,
    names_are_known: bool = True,
) -> list[dict[str, Any]]:
    """Records whose labels count in `class_names`; the given ones stay as they are.

    Classes without an image may be missing on either side.

    Args:
        records: with "label" in [0, len(own_names)).
        own_names: classes of their set.
        class_names: K classes, for example those that a model was trained on.
        names_are_known: False where the set has numbers alone: then they count in `class_names`.

    Raises:
        ValueError: an image is of a class that is not among `class_names`; lists the difference.
    """
    if not names_are_known:
        _require_numbers(records, len(class_names))
        return [dict(record) for record in records]
    position = {name: label for label, name in enumerate(class_names)}
    used = sorted({int(record["label"]) for record in records})
    foreign = [own_names[label] for label in used if own_names[label] not in position]
    if foreign:
        absent = sorted(set(class_names) - set(own_names))
        raise ValueError(
            f"it has images of {counted(len(foreign), 'class')} that the model does not know: "
            f"{shortened(foreign)}; "
            + (f"it lacks {shortened(absent)}; " if absent else "")
            + "rename the classes, take these images out, or train on sets that have them."
        )
    new = [position.get(name, -1) for name in own_names]
    return [{**record, "label": new[record["label"]]} for record in records]


def _require_numbers(records: Sequence[dict[str, Any]], num_classes: int) -> None:
    outside = [record for record in records if not 0 <= record["label"] < num_classes]
    if outside:
        raise ValueError(
            f"{len(outside)} of {counted(len(records), 'label')} "
            f"{agreeing(len(outside), 'lies', 'lie')} outside 0 to {num_classes - 1}, the first is "
            f"{outside[0]['label']} of {outside[0]['file_name']}; correct the labels (they count "
            "from 0), or name the classes."
        )
