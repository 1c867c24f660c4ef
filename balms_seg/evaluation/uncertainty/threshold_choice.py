"""Where a class's curves are best for an objective, leaning on its group's.

A class with few objects cannot tell its own best threshold. So its counts are joined by those of
the other classes of its frequency group, scaled to `prior_objects` objects: a class without objects
gets its group's threshold, one with thousands its own.

Symbols: K classes, S candidate thresholds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from balms_seg.evaluation.uncertainty.score_counts import Curves


@dataclass(frozen=True)
class Objective:
    """What a threshold is chosen for.

    Attributes:
        name: "f" (largest F score), "precision" (the lowest threshold that reaches it) or "recall"
            (the highest threshold that reaches it).
        value: beta of the F score, or the share to reach.
    """

    name: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read "f1", "f0.5", "f2", "precision=0.9" or "recall=0.8".

        Raises:
            ValueError: it is none of these, or the number is out of range.
        """
        name, _, number = text.partition("=")
        if text[:1] == "f" and not number:
            name, number = "f", text[1:]
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        is_share = name in ("precision", "recall") and 0 < value <= 1
        if not is_share and not (name == "f" and 0 < value < math.inf):
            raise ValueError(
                "Expected an objective such as f1, f0.5, f2, precision=0.9 or recall=0.8, but got "
                f"{text!r}."
            )
        return cls(name, value)


def choose_thresholds(
    curves: Curves, groups: np.ndarray, objective: Objective, *, prior_objects: float
) -> np.ndarray:
    """Index of each class's threshold.

    Where nothing is found the threshold is the highest: it keeps nothing rather than everything.
    Where no threshold reaches the objective it is the one that comes nearest.

    Args:
        curves: of the images to choose on.
        groups: (K,) frequency group.
        objective: what to choose for.
        prior_objects: how many objects' worth the group's curve counts in a class's.

    Returns:
        (K,) indices of candidates.
    """
    true, false, objects = (
        _with_prior(own, curves.objects, curves.true[:, 0], groups, prior_objects)
        for own in (curves.true, curves.false, curves.objects[:, None])
    )
    chosen = _best(true, false, objects, objective)
    return np.where(true[:, 0] > 0, chosen, true.shape[1] - 1)


def _best(
    true: np.ndarray, false: np.ndarray, objects: np.ndarray, objective: Objective
) -> np.ndarray:
    """`choose_thresholds` of (K, S) curves and (K, 1) objects."""
    values = objective_values(true, false, objects, objective)
    if objective.name == "f":
        return values.argmax(axis=1)
    reaches = values >= objective.value
    if objective.name == "precision":
        return np.where(reaches.any(axis=1), reaches.argmax(axis=1), values.argmax(axis=1))
    highest = reaches.shape[1] - 1 - reaches[:, ::-1].argmax(axis=1)
    return np.where(reaches.any(axis=1), highest, 0)


def objective_values(
    true: np.ndarray, false: np.ndarray, objects: np.ndarray, objective: Objective
) -> np.ndarray:
    """F score, precision or recall at each candidate, (K, S); 0 where nothing is kept.

    Args:
        true: (K, S) right detections kept.
        false: (K, S) wrong ones.
        objects: (K, 1).
        objective: which of the three.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        if objective.name == "f":
            square = objective.value**2
            return np.nan_to_num((1 + square) * true / (true + false + square * objects))
        whole = true + false if objective.name == "precision" else objects
        return np.nan_to_num(true / whole)


def _with_prior(
    own: np.ndarray,
    objects: np.ndarray,
    found: np.ndarray,
    groups: np.ndarray,
    prior_objects: float,
) -> np.ndarray:
    """Counts of each class and, scaled to `prior_objects` objects, of the rest of its group.

    The rest of all classes stands in for a group whose other classes have no objects, or none that
    are found.
    """
    pooled, pooled_objects = own.sum(axis=0) - own, objects.sum() - objects
    for group in np.unique(groups):
        members = groups == group
        rest_objects = objects[members].sum() - objects[members]
        rest_found = found[members].sum() - found[members]
        has_rest = (rest_objects > 0) & (rest_found > 0)
        rest = own[members].sum(axis=0) - own[members]
        pooled[members] = np.where(has_rest[:, None], rest, pooled[members])
        pooled_objects[members] = np.where(has_rest, rest_objects, pooled_objects[members])
    return own + pooled * (prior_objects / np.maximum(pooled_objects, 1.0))[:, None]
