"""What to do where a table's APr, APc or APf has no classes, or one alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from balms_seg.class_statistics.frequency_groups import group_by_bounds, third_bounds
from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS

NO_GROUPS = (
    "No class has a frequency group, so APr, APc and APf are n/a: the annotations say none, and "
    "the training set is unknown. Give the evaluator statistics=ClassStatistics.from_json(path of "
    "the training annotations); balms-seg evaluate takes --training."
)


def describe_empty_groups(
    group_sizes: Mapping[str, Mapping[str, int]], image_counts: Iterable[int]
) -> str | None:
    """Say which groups have no class or one, and propose bounds by which all three have some.

    Args:
        group_sizes: `classes` per group name, as in `LVISResult`.
        image_counts: training images of each class; empty where unknown.

    Returns:
        One line or two; None where every group has classes.
    """
    sizes = {
        name: group_sizes.get(name, {}).get("classes", 0) for name in FREQUENCY_GROUPS.values()
    }
    if not any(sizes.values()):
        return NO_GROUPS
    empty = [name for name, size in sizes.items() if size == 0]
    single = [name for name, size in sizes.items() if size == 1]
    said = [f"No class is {' or '.join(empty)} by these groups."] if empty else []
    if single and sum(sizes.values()) >= 2 * len(sizes):  # enough for two in each
        said.append(f"One class alone is {' or '.join(single)} by these groups.")
    if not said:
        return None
    text = " ".join(said)
    counts = np.array([*image_counts])
    bounds = third_bounds(counts) if counts.size else None
    if bounds is None:
        return text
    rare, common = bounds
    first, second, third = np.bincount(group_by_bounds(counts[counts > 0], bounds), minlength=3)
    return (
        f"{text}\nFor {first}, {second} and {third} classes by training images: "
        f'TEST.LONG_TAILED.GROUP_BOUNDS "[{rare},{common}]" (balms-seg evaluate: --group-bounds '
        f"{rare} {common})."
    )
