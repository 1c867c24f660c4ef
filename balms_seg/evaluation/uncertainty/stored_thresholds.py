"""Thresholds of a stored run as files: a table for people, a fragment of configuration."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from balms_seg.annotations import shortened
from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS
from balms_seg.evaluation.output.result_table import (
    NOT_AVAILABLE,
    format_score,
    layout_table,
)
from balms_seg.evaluation.predictions.match_file import StoredMatches
from balms_seg.evaluation.uncertainty.operating_points import (
    Objective,
    OperatingPoint,
    choose_operating_points,
)
from balms_seg.evaluation.uncertainty.run_seeds import evaluated_model, trained_on
from balms_seg.evaluation.uncertainty.stored_runs import load_run

CSV_FILE, YAML_FILE = "thresholds.csv", "thresholds.yaml"
_NUM_NAMED = 10
_REACHED = {True: "yes", False: "no", None: NOT_AVAILABLE}
_COLUMNS = (
    *("class_id", "name", "frequency", "objects", "threshold", "threshold_low", "threshold_high"),
    *("precision", "precision_low", "precision_high", "recall", "recall_low", "recall_high"),
    *("kept", "objective_reached"),
)


@dataclass(frozen=True)
class ChosenThresholds:
    """What was chosen. K: classes.

    Attributes:
        class_names: K.
        values: K scores to cut at.
        table: a line a frequency group.
    """

    class_names: tuple[str, ...]
    values: list[float]
    table: str


def choose_stored_thresholds(
    run: Path,
    objective: str,
    *,
    task: str = "bbox",
    prior_objects: float = 20.0,
    seed: int = 0,
    output: Path,
    outside: bool = False,
) -> ChosenThresholds:
    """Choose the thresholds of a run's classes and write them to `output`.

    Args:
        run: output folder of a run, or a file in it.
        objective: as `Objective.parse` takes it.
        task: of the run.
        prior_objects: as in `choose_operating_points`.
        seed: likewise.
        output: folder for thresholds.csv and thresholds.yaml; made where it is missing.
        outside: whether links may lead out of the run.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: it holds no matches of the task, or those of several sets.
    """
    parsed = Objective.parse(objective)
    stored = [one for one in load_run(run, outside=outside).values() if one.task == task]
    if len(stored) != 1:
        raise ValueError(
            f"Expected the matches of one evaluation of {task} in {run}, but found {len(stored)}; "
            f"evaluate the run, or name one file matches_{task}.npz."
        )
    points = choose_operating_points(stored[0], parsed, prior_objects=prior_objects, seed=seed)
    output.mkdir(parents=True, exist_ok=True)
    model = evaluated_model(run)
    following = predict_command(model or "RUN", output / YAML_FILE)
    _write_csv(output / CSV_FILE, stored[0], points)
    _write_yaml(output / YAML_FILE, objective, points, following)
    head = (
        f"{task}, {stored[0].num_images} images, objective {objective}; written to "
        f"{output / CSV_FILE} and {output / YAML_FILE}\nMedians over the classes of each group:"
    )
    table = f"{head}\n{format_groups(stored[0].frequency, points)}"
    judged = [point.is_reached for point in points if point.is_reached is not None]
    if not all(judged):
        table += (
            f"\n{objective} is reached for {sum(judged)} of the {len(judged)} classes with "
            "objects; the others have the threshold that comes nearest."
        )
    never = [
        name for name, point in zip(stored[0].class_names, points, strict=True) if point.is_blind
    ]
    if never:
        table += (
            f"\n{len(never)} of {len(points)} classes have objects of which none is found at their "
            "threshold, which rests on that of their group; do not rely on it before the model "
            f"finds some: {shortened(never, _NUM_NAMED)}."
        )
    for name in trained_on(run):
        table += (
            f"\nThe model was trained on {name} and is surer there than elsewhere: evaluate it on "
            "held-out images, and choose there."
        )
    table += f"\nNext: {following}"
    table += "" if model else "  (RUN: output folder or checkpoint of the model)"
    return ChosenThresholds(stored[0].class_names, _rounded(points), table)


def predict_command(model: str, thresholds: Path) -> str:
    """The command that predicts at chosen thresholds.

    Args:
        model: output folder of its run, or a checkpoint.
        thresholds: the yaml.
    """
    known = ["--thresholds", str(thresholds), "--output", "found"]
    return shlex.join(["balms-seg", "predict", model, "IMAGES", *known])


def format_groups(frequency: Sequence[str], points: Sequence[OperatingPoint]) -> str:
    """A line a group: classes, objects, medians, and of how many classes nothing is found.

    Also for how many the objective is not reached, where there is a precision or recall to reach.
    """
    head = ["group", "classes", "objects", "threshold", "precision", "recall", "none found"]
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
        counts = [sum(point.is_blind for point in own)]
        counts += [sum(point.is_reached is False for point in own)] * has_goal
        rows.append(
            [FREQUENCY_GROUPS[letter], str(len(own)), str(objects), *medians, *map(str, counts)]
        )
    return "\n".join(layout_table(rows))


def _median(values: list[float]) -> str:
    known = [value for value in values if not np.isnan(value)]
    return format_score(float(np.median(known)), 3) if known else NOT_AVAILABLE


def _write_csv(path: Path, stored: StoredMatches, points: Sequence[OperatingPoint]) -> None:
    def shown(value: float) -> str:
        return NOT_AVAILABLE if np.isnan(value) else f"{value:.6g}"

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for index, (name, group, point) in enumerate(
            zip(stored.class_names, stored.frequency, points, strict=True)
        ):
            numbers = (
                *(point.threshold, *point.threshold_interval),
                *(point.precision, *point.precision_interval),
                *(point.recall, *point.recall_interval),
            )
            reached = _REACHED[point.is_reached]
            writer.writerow(
                [index, name, group or NOT_AVAILABLE, point.num_objects]
                + [*map(shown, numbers), point.num_kept, reached]
            )


def _rounded(points: Sequence[OperatingPoint]) -> list[float]:
    return [round(point.threshold, 6) for point in points]


def _never_found(points: Sequence[OperatingPoint]) -> str:
    number = sum(point.is_blind for point in points)
    if not number:
        return ""
    return f"# Of {number} of {len(points)} classes nothing was found: do not rely on theirs.\n"


def _write_yaml(
    path: Path, objective: str, points: Sequence[OperatingPoint], following: str
) -> None:
    thresholds = json.dumps(_rounded(points))
    path.write_text(
        f"# Scores to cut at, class by class, for {objective}:\n"
        f"#   {following}\n"
        "# Or name the run's config.yaml in _BASE_, or give these keys on the command line.\n"
        f"{_never_found(points)}"
        "VERSION: 2  # of detectron2's keys, which it asks of what is merged\n"
        "MODEL:\n"
        "  ROI_BOX_HEAD:\n"
        f"    CLASS_THRESHOLDS: {thresholds}\n",
        encoding="utf-8",
    )
