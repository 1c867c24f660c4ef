"""Class statistics as text and as csv."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from balms_seg.class_statistics.frequency_groups import (
    LVIS_GROUPS,
    group_by_bounds,
    group_spans,
    third_bounds,
    usual_bounds,
)
from balms_seg.class_statistics.repeat_threshold import threshold_that_repeats
from balms_seg.csv_files import csv_file
from balms_seg.wording import counted

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


def format_class_statistics(
    statistics: ClassStatistics,
    *,
    num_listed: int = 5,
    group_bounds: tuple[int, int] | None = None,
) -> str:
    """Describe a training set: its groups, head and tail classes, and classes without a sample.

    Args:
        statistics: of the set.
        num_listed: classes to list at either end; all in one list where both ends would meet.
        group_bounds: by which the classes were grouped; None: the usual ones, or by annotations.

    Returns:
        Lines of text, at most 100 columns wide for names of moderate length.
    """
    images, instances = statistics.image_counts, statistics.instance_counts
    order = np.argsort(-images, kind="stable")
    order = order[images[order] > 0]
    lines = [
        f"{statistics.num_classes} classes, {statistics.num_images} images with annotations, "
        f"{int(instances.sum())} instances",
        f"imbalance (most to fewest, of classes with a sample): images {_imbalance(images)}, "
        f"instances {_imbalance(instances)}",
        "",
        *_align([("group", "classes", "images", "instances", "of all"), *_group_rows(statistics)]),
        _describe_bounds(statistics, group_bounds or usual_bounds(statistics.group_names)),
        *_proposals(statistics),
    ]
    ends = {"most frequent": order[:num_listed], "rarest": order[len(order) - num_listed :]}
    if len(order) <= 2 * num_listed:
        ends = {"all classes": order}
    for title, ids in ends.items():
        rows = [
            (statistics.class_names[i], str(images[i]), str(instances[i])) for i in ids.tolist()
        ]
        lines += ["", *_align([(title, "images", "instances"), *rows])]
    empty = [statistics.class_names[i] for i in np.flatnonzero(instances == 0)]
    lines += ["", f"without a sample ({len(empty)}): {', '.join(empty) or 'none'}"]
    return "\n".join(lines)


def _group_rows(statistics: ClassStatistics) -> Iterable[tuple[str, ...]]:
    total = max(int(statistics.instance_counts.sum()), 1)
    spans = group_spans(statistics.image_counts, statistics.groups)
    for name, ids in statistics.groups.items():
        instances = int(statistics.instance_counts[ids].sum())
        span = "{}-{} a class".format(*spans[name]) if name in spans else "n/a"
        yield name, str(len(ids)), span, str(instances), f"{100 * instances / total:.1f} %"


def _describe_bounds(statistics: ClassStatistics, bounds: tuple[int, int]) -> str:
    """By which numbers of images the classes are grouped."""
    if (group_by_bounds(statistics.image_counts, bounds) != statistics.group_ids).any():
        return "groups: those that the annotations say, not these counts"
    names, (low, high) = statistics.group_names, bounds
    return f"groups: {names[0]} up to {low} images, {names[1]} up to {high}, {names[2]} more"


def _proposals(statistics: ClassStatistics) -> Iterable[str]:
    """Settings that follow from the counts."""
    images, of_instances = statistics.image_counts, statistics.group_names == LVIS_GROUPS
    if not images.any():
        return
    if of_instances:
        shown = images[images > 0] / statistics.num_images
        threshold = threshold_that_repeats(shown)
        repeated = int((shown < threshold).sum())
        yield (
            f"DATALOADER.REPEAT_THRESHOLD {threshold:g} repeats images of the rarest {repeated} of "
            f"{counted(len(shown), 'class')}"
        )
    empty = [name for name, ids in statistics.groups.items() if not len(ids)]
    bounds = third_bounds(images) if empty else None
    if bounds is not None:
        yield (
            f'TEST.LONG_TAILED.GROUP_BOUNDS "[{bounds[0]},{bounds[1]}]" makes three groups, as '
            f"even as the counts allow; now none is {' or '.join(empty)}"
        )


def _imbalance(counts: np.ndarray) -> str:
    present = counts[counts > 0]
    return f"{present.max() / present.min():.0f}" if len(present) else "n/a"


def _align(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns padded to their widest cell, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def write_class_csv(
    statistics: ClassStatistics, path: str | Path, *, category_ids: Sequence[int] | None = None
) -> None:
    """Write one line a class: index, the annotations' id, name, group, images, instances.

    Args:
        statistics: of the set.
        path: csv to write.
        category_ids: K ids of the annotations' categories; None: n/a, as for whole images.
    """
    ids = ["n/a"] * statistics.num_classes if category_ids is None else category_ids
    groups = (statistics.group_names[group] for group in statistics.group_ids)
    counts = statistics.image_counts, statistics.instance_counts
    rows = zip(count(), ids, statistics.class_names, groups, *counts, strict=False)
    with csv_file(path) as writer:
        writer.writerow(
            ["class_id", "category_id", "name", "group", "image_count", "instance_count"]
        )
        writer.writerows(rows)
