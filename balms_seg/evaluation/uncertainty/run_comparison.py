"""Whether two runs on one evaluation set differ by more than the choice of its images explains."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from balms_seg.evaluation.predictions.match_file import StoredMatches
from balms_seg.evaluation.uncertainty.bootstrap import (
    draw_weights,
    group_means,
    interval,
    resampled_class_ap,
)


@dataclass(frozen=True)
class Difference:
    """One metric of two runs, as fractions; nan where there is no ground truth.

    Attributes:
        first: of the first run, on the images as they are.
        second: of the second.
        low: lower end of the interval of second - first.
        high: upper end.
    """

    first: float
    second: float
    low: float
    high: float

    @property
    def is_larger_than_chance(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def compare_runs(
    first: StoredMatches,
    second: StoredMatches,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Difference]:
    """Compare AP, APr, APc and APf of two runs by a paired bootstrap over images.

    Both runs see the same resamples, so what makes images hard for both cancels. The interval says
    what other images of the same kind would change, not what another training seed would.

    Args:
        first: matches of a run; its frequency groups serve both.
        second: matches of another on the same evaluation set.
        num_resamples: more give steadier ends.
        seed: of the resamples.
        level: of the interval.

    Raises:
        ValueError: the runs are of different evaluation sets or tasks, or an argument is out of
            range.
    """
    if first.fingerprint != second.fingerprint:
        raise ValueError(
            "Expected two runs on the same evaluation set, but their ground truth differs "
            f"({first.num_images} and {second.num_images} images, {len(first.class_names)} and "
            f"{len(second.class_names)} classes); evaluate both on the same annotations."
        )
    if first.task != second.task:
        raise ValueError(f"Expected one task, but got {first.task} and {second.task}.")
    if num_resamples < 2 or not 0 < level < 1:
        raise ValueError(
            f"Expected at least 2 resamples and a level between 0 and 1, but got {num_resamples} "
            f"and {level}."
        )
    weights = draw_weights(first.num_images, num_resamples, seed=seed)
    as_is = np.ones((first.num_images, 1), dtype=np.int32)
    values, resampled = [], []
    for run in (first, second):
        values.append(group_means(resampled_class_ap(run, as_is), first.frequency))
        resampled.append(group_means(resampled_class_ap(run, weights), first.frequency))
    return {
        name: Difference(
            float(values[0][name][0]),
            float(values[1][name][0]),
            *interval(resampled[1][name] - resampled[0][name], level),
        )
        for name in values[0]
    }


def format_comparison(differences: dict[str, Difference], *, level: float = 0.95) -> str:
    """A table in percent, one line a metric, and what it means."""
    header = ["metric", "A", "B", "B - A", f"{100 * level:g}% interval", "larger than chance"]
    rows = [header]
    for name, one in differences.items():
        if math.isnan(one.first) or math.isnan(one.low):
            rows.append([name, *["n/a"] * 5])
            continue
        ends = f"{100 * one.low:+.2f} to {100 * one.high:+.2f}"
        rows.append(
            [
                name,
                f"{100 * one.first:.2f}",
                f"{100 * one.second:.2f}",
                f"{100 * (one.second - one.first):+.2f}",
                ends,
                "yes" if one.is_larger_than_chance else "no",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 1) + ":" for w in widths) + "|")
    return "\n".join(lines)
