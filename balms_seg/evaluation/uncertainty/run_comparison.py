"""Whether two runs on one evaluation set differ by more than the choice of its images explains."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from balms_seg.evaluation.lvis.lvis_ap import TELLING_AP
from balms_seg.evaluation.output.next_to_nothing import is_next_to_nothing
from balms_seg.evaluation.output.result_table import layout_table
from balms_seg.evaluation.predictions.match_file import StoredMatches
from balms_seg.evaluation.uncertainty.difference import Difference, too_few_classes
from balms_seg.evaluation.uncertainty.jackknife import (
    leave_out_weights,
    student_reach,
)
from balms_seg.evaluation.uncertainty.resampled_ap import (
    classes_with_objects,
    draw_weights,
    group_means,
    interval,
    resampled_class_ap,
)
from balms_seg.wording import counted

NOT_JUDGED = "not judged"


def compare_runs(
    first: StoredMatches,
    second: StoredMatches,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Difference]:
    """Compare AP, APr, APc and APf of two runs over the same images.

    Both runs see the same resamples, so what makes images hard for both cancels. The interval is
    the percentile interval of a paired bootstrap, widened where Student's interval of the jackknife
    is wider: with few objects, of rare classes above all, the percentiles alone call runs different
    that are not. It says what other images of the same kind would change, not what another training
    seed would. A metric that rests on fewer than `MIN_CLASSES` classes is not judged.

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
            f"({first.num_images} and {counted(second.num_images, 'image')}, "
            f"{len(first.class_names)} and {counted(len(second.class_names), 'class')}); "
            "evaluate both on the same annotations."
        )
    if first.task != second.task:
        raise ValueError(f"Expected one task, but got {first.task} and {second.task}.")
    if num_resamples < 2 or not 0 < level < 1:
        raise ValueError(
            f"Expected at least 2 resamples and a level between 0 and 1, but got {num_resamples} "
            f"and {level}."
        )
    left_out = leave_out_weights(first.num_images)
    resamples = draw_weights(first.num_images, num_resamples, seed=seed)
    as_is = np.ones((first.num_images, 1), dtype=np.int32)
    weights = np.concatenate([as_is, left_out, resamples], axis=1)
    ours, theirs = (
        group_means(resampled_class_ap(run, weights), first.frequency) for run in (first, second)
    )
    num_classes = classes_with_objects(first)
    found = {}
    for name, values in ours.items():
        difference, without_block, resampled = np.split(
            theirs[name] - values, [1, 1 + left_out.shape[1]]
        )
        percentiles = interval(resampled, level)
        reach = np.nan_to_num(student_reach(difference[0], without_block, level))
        found[name] = Difference(
            float(values[0]),
            float(theirs[name][0]),
            min(percentiles[0], float(difference[0] - reach)),
            max(percentiles[1], float(difference[0] + reach)),
            num_classes=num_classes[name],
        )
    return found


def nothing_yet(runs: str) -> str:
    """That these runs, in words, find too little for their differences to mean anything."""
    return (
        f"{runs} find next to nothing (AP below {100 * TELLING_AP:g}): their differences say "
        "nothing yet. Train longer."
    )


NOTHING_YET = nothing_yet("Both runs")


def find_next_to_nothing(differences: Mapping[str, Difference]) -> bool:
    """Whether neither run finds enough for their differences to mean anything."""
    both = differences["AP"]
    return is_next_to_nothing([100 * both.first, 100 * both.second])


def format_comparison(
    differences: dict[str, Difference], *, names: tuple[str, str], level: float = 0.95
) -> str:
    """A table in percent, one line a metric, its columns headed by the runs' names.

    "Classes" are those with objects; where too few are for a verdict, a line below says so.
    """
    interval_title = f"{100 * level:g}% interval"
    header = ["metric", "classes", *names, "difference", interval_title, "larger than chance"]
    rows = [header]
    for name, one in differences.items():
        classes = "n/a" if one.num_classes is None else str(one.num_classes)
        if math.isnan(one.first) or math.isnan(one.low):
            rows.append([name, classes, *["n/a"] * 5])
            continue
        ends = f"{100 * one.low:+.2f} to {100 * one.high:+.2f}"
        rows.append(
            [
                *(name, classes, f"{100 * one.first:.2f}", f"{100 * one.second:.2f}"),
                *(f"{100 * one.value:+.2f}", ends, verdict(one)),
            ]
        )
    lines = layout_table(rows)
    if any(row[-1] == NOT_JUDGED for row in rows):
        lines.append(explain_not_judged("choice of images"))
    return "\n".join(lines)


def explain_not_judged(each: str) -> str:
    """Why a metric is not judged; `each` is what the differences are taken over."""
    return (
        f"Not judged: {too_few_classes()}, or each {each} gives the same difference. It says "
        "nothing of the group."
    )


def verdict(one: Difference) -> str:
    """Whether a difference is larger than chance, as tables say it."""
    if not one.can_be_judged:
        return NOT_JUDGED
    return "yes" if one.is_larger_than_chance else "no"
