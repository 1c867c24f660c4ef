"""What to do where a table's APr, APc or APf has no classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from balms_seg.class_statistics.frequency_groups import third_bounds
from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS

NO_GROUPS = (
    "No class has a frequency group, so APr, APc and APf are n/a: the annotations say none, and "
    "the training set is unknown. Give the evaluator statistics=ClassStatistics.from_json(path of "
    "the training annotations); balms-seg evaluate takes --training."
)


def describe_empty_groups(
    group_sizes: Mapping[str, Mapping[str, int]], image_counts: Iterable[int]
) -> str | None:
    """Say which groups have no class, and propose bounds by which all three have some.

    Args:
        group_sizes: `classes` per group name, as in `LVISResult`.
        image_counts: training images of each class; empty where unknown.

    Returns:
        A sentence or two; None where no group is empty.
    """
    names = FREQUENCY_GROUPS.values()
    empty = [name for name in names if not group_sizes.get(name, {}).get("classes")]
    if not empty:
        return None
    if len(empty) == len(FREQUENCY_GROUPS):
        return NO_GROUPS
    text = f"No class is {' or '.join(empty)} by these groups."
    counts = np.array([*image_counts])
    bounds = third_bounds(counts) if counts.size else None
    if bounds is None:
        return text
    rare, common = bounds
    return (
        f"{text} By training images, TEST.LONG_TAILED.GROUP_BOUNDS [{rare},{common}] "
        f"(balms-seg evaluate: --group-bounds {rare} {common}) puts about a third of the classes "
        "into each."
    )
