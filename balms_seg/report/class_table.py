"""Class statistics as text and as csv."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from balms_seg.class_statistics import ClassStatistics


def format_class_statistics(statistics: ClassStatistics, *, num_listed: int = 5) -> str:
    """Describe a training set: its groups, head and tail classes, and classes without a sample.

    Args:
        statistics: of the set.
        num_listed: classes to list at either end.

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
    ]
    for title, ids in (("most frequent", order[:num_listed]), ("rarest", order[-num_listed:])):
        rows = [
            (statistics.class_names[i], str(images[i]), str(instances[i])) for i in ids.tolist()
        ]
        lines += ["", *_align([(title, "images", "instances"), *rows])]
    empty = [statistics.class_names[i] for i in np.flatnonzero(instances == 0)]
    lines += ["", f"without a sample ({len(empty)}): {', '.join(empty) or 'none'}"]
    return "\n".join(lines)


def _group_rows(statistics: ClassStatistics) -> Iterable[tuple[str, ...]]:
    total = max(int(statistics.instance_counts.sum()), 1)
    for name, ids in statistics.groups.items():
        images = statistics.image_counts[ids]
        instances = int(statistics.instance_counts[ids].sum())
        span = f"{images.min()}-{images.max()} a class" if len(ids) else "n/a"
        yield name, str(len(ids)), span, str(instances), f"{100 * instances / total:.1f} %"


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


def write_class_csv(statistics: ClassStatistics, path: str | Path) -> None:
    """Write one line a class: id, name, group, images, instances."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class_id", "name", "group", "image_count", "instance_count"])
        for i, name in enumerate(statistics.class_names):
            group = statistics.group_names[statistics.group_ids[i]]
            writer.writerow(
                [i, name, group, statistics.image_counts[i], statistics.instance_counts[i]]
            )
