"""A table whose groups say little gets a sentence, and bounds by which they say more."""

from __future__ import annotations

import numpy as np
import pytest

from balms_seg.class_statistics.frequency_groups import group_by_bounds
from balms_seg.evaluation.output.group_hints import NO_GROUPS, describe_empty_groups

COUNTS = np.array([12, 15, 20, 30, 40, 50, 60, 70, 300])


def sizes(rare: int, common: int, frequent: int) -> dict[str, dict[str, int]]:
    names = ("rare", "common", "frequent")
    return {name: {"classes": n} for name, n in zip(names, (rare, common, frequent), strict=True)}


@pytest.mark.parametrize(
    ("group_sizes", "expected"),
    [
        (sizes(0, 9, 0), "No class is rare or frequent by these groups."),
        (sizes(2, 6, 1), "One class alone is frequent by these groups."),
        (sizes(0, 8, 1), "No class is rare by these groups. One class alone is frequent by these"),
    ],
)
def test_bounds_that_make_three_groups_are_proposed(
    group_sizes: dict[str, dict[str, int]], expected: str
) -> None:
    said = describe_empty_groups(group_sizes, COUNTS)
    assert said.startswith(expected)
    assert said.splitlines()[1:] == [
        'For 3, 3 and 3 classes by training images: TEST.LONG_TAILED.GROUP_BOUNDS "[20,50]" '
        "(balms-seg evaluate: --group-bounds 20 50)."
    ]
    assert np.bincount(group_by_bounds(COUNTS, (20, 50))).tolist() == [3, 3, 3]


def test_groups_of_several_classes_and_of_few_classes_are_left_alone() -> None:
    assert describe_empty_groups(sizes(2, 5, 2), COUNTS) is None
    assert describe_empty_groups(sizes(1, 1, 1), COUNTS[:3]) is None  # three classes in all


def test_where_nothing_is_known_the_training_set_is_asked_for() -> None:
    assert describe_empty_groups(sizes(0, 0, 0), []) == NO_GROUPS
    assert describe_empty_groups(sizes(0, 9, 0), []) == (
        "No class is rare or frequent by these groups."
    )
