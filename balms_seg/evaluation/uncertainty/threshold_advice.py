"""Chosen thresholds in words: a line a group, what they reach, and what they leave out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from balms_seg.annotations import shortened
from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS
from balms_seg.evaluation.output.result_table import (
    NOT_AVAILABLE,
    format_score,
    layout_table,
)
from balms_seg.evaluation.uncertainty.operating_points import OperatingPoint
from balms_seg.evaluation.uncertainty.threshold_choice import Objective
from balms_seg.wording import agreeing, counted

_NUM_NAMED = 10


def format_groups(frequency: Sequence[str], points: Sequence[OperatingPoint]) -> str:
    """A line a group: classes, objects, medians, and how many classes nothing right is kept of.

    Also for how many the objective is not reached, where there is a precision or recall to reach.

    Args:
        frequency: (K,) letters.
        points: K.
    """
    head = ["group", "classes", "objects", "threshold", "precision", "recall"]
    head += ["never found", "cut off"]
    has_goal = any(point.is_reached is not None for point in points)
    rows = [head + ["not reached"] * has_goal]
    for letter in FREQUENCY_GROUPS:
        own = [point for point, group in zip(points, frequency, strict=True) if group == letter]
        if not own:
            continue
        medians = [
            _median([getattr(point, name) for point in own])
            for name in ("threshold", "precision", "recall")
        ]
        objects = sum(point.num_objects for point in own)
        counts = [sum(point.is_never_found for point in own)]
        counts += [sum(point.is_cut_off for point in own)]
        counts += [sum(point.is_reached is False for point in own)] * has_goal
        rows.append(
            [FREQUENCY_GROUPS[letter], str(len(own)), str(objects), *medians, *map(str, counts)]
        )
    return "\n".join(layout_table(rows))


def advise(
    class_names: Sequence[str],
    points: Sequence[OperatingPoint],
    objective: str,
    *,
    prior_objects: float,
) -> list[str]:
    """What the thresholds do not reach, which classes they leave out, and what to do about it.

    Args:
        class_names: K.
        points: K.
        objective: as `Objective.parse` takes it.
        prior_objects: as they were chosen with.

    Returns:
        A line each; none where there is nothing to say.
    """
    lines = _describe_goal(points, objective)
    never = [name for name, one in zip(class_names, points, strict=True) if one.is_never_found]
    if never:
        lines.append(
            f"{len(never)} of {counted(len(points), 'class')} {agreeing(len(never), 'is', 'are')} "
            "never found: there are objects, but no right detection at any score, so that no "
            "threshold helps. Train longer, or on more images of them: "
            f"{shortened(never, _NUM_NAMED)}."
        )
    cut_off = [name for name, one in zip(class_names, points, strict=True) if one.is_cut_off]
    if cut_off:
        lines.append(
            f"{len(cut_off)} of {counted(len(points), 'class')} "
            f"{agreeing(len(cut_off), 'is', 'are')} found, but cut off: all right detections score "
            f"below the threshold, which leans on other classes: {shortened(cut_off, _NUM_NAMED)}. "
            f"To keep more, {_softer(Objective.parse(objective))}, or let classes lean less on "
            f"others (--prior-objects below {prior_objects:g}); either may let more wrong "
            "detections pass."
        )
    return lines


def _describe_goal(points: Sequence[OperatingPoint], objective: str) -> list[str]:
    """For how many classes a precision or recall is reached, and why not for the others."""
    judged = [point for point in points if point.is_reached is not None]
    missed = [point for point in judged if not point.is_reached]
    if not missed:
        return []
    reachable = sum(bool(point.is_reachable) for point in missed)
    reasons = []
    if reachable:
        reasons.append(
            f"for {reachable} another threshold would, but theirs leans on other classes"
        )
    if len(missed) > reachable:
        reasons.append(f"for {len(missed) - reachable} no threshold does")
    return [
        f"On the images they are chosen on, these thresholds reach {objective} for "
        f"{len(judged) - len(missed)} of the {counted(len(judged), 'class')} with objects; "
        f"{', and '.join(reasons)}."
    ]


def _softer(objective: Objective) -> str:
    """What to ask for instead, so that thresholds become lower."""
    if objective.name == "f":
        return f"weigh recall more (--objective f{2 * objective.value:g})"
    if objective.name == "recall":
        return "ask for a higher recall"
    return "ask for a lower precision"


def _median(values: list[float]) -> str:
    known = [value for value in values if not np.isnan(value)]
    return format_score(float(np.median(known)), 3) if known else NOT_AVAILABLE
