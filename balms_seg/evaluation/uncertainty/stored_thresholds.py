"""Thresholds of a stored run as files: a table for people, a fragment of configuration."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from balms_seg.csv_files import csv_file
from balms_seg.evaluation.output.next_to_nothing import FINDS_NOTHING, is_next_to_nothing
from balms_seg.evaluation.output.result_table import NOT_AVAILABLE
from balms_seg.evaluation.predictions.match_file import StoredMatches
from balms_seg.evaluation.uncertainty.operating_points import (
    OperatingPoint,
    choose_operating_points,
)
from balms_seg.evaluation.uncertainty.resampled_ap import group_means, resampled_class_ap
from balms_seg.evaluation.uncertainty.run_seeds import evaluated_model, trained_on
from balms_seg.evaluation.uncertainty.stored_runs import load_run
from balms_seg.evaluation.uncertainty.threshold_advice import advise, format_groups
from balms_seg.evaluation.uncertainty.threshold_choice import Objective
from balms_seg.wording import counted

CSV_FILE, YAML_FILE = "thresholds.csv", "thresholds.yaml"
_REACHED = {True: "yes", False: "no", None: NOT_AVAILABLE}
_COLUMNS = (
    *("class_id", "name", "frequency", "objects", "threshold", "threshold_low", "threshold_high"),
    *("precision_unseen", "precision_unseen_low", "precision_unseen_high"),
    *("recall_unseen", "recall_unseen_low", "recall_unseen_high"),
    *("right", "kept", "kept_right", "objective_reached"),
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
    values = [_shortest(point.threshold) for point in points]
    output.mkdir(parents=True, exist_ok=True)
    model = evaluated_model(run)
    following = predict_command(model or "RUN", output / YAML_FILE)
    _write_csv(output / CSV_FILE, stored[0], points)
    _write_yaml(output / YAML_FILE, objective, points, values, following)
    head = (
        f"{task}, {counted(stored[0].num_images, 'image')}, objective {objective}; written to "
        f"{output / CSV_FILE} and {output / YAML_FILE}\nMedians over the classes of each group, "
        "precision and recall on images without a say in the threshold:"
    )
    advice = advise(stored[0].class_names, points, objective, prior_objects=prior_objects)
    table = "\n".join([head, format_groups(stored[0].frequency, points), *advice])
    for name in trained_on(run):
        table += (
            f"\nThe model was trained on {name} and is surer there than elsewhere: evaluate it on "
            "held-out images, and choose there."
        )
    if is_next_to_nothing([100 * _average_precision(stored[0])]):
        table += f"\n{FINDS_NOTHING}"
    else:
        table += f"\nNext: {following}"
        table += "" if model else "  (RUN: output folder or checkpoint of the model)"
    return ChosenThresholds(stored[0].class_names, values, table)


def _average_precision(stored: StoredMatches) -> float:
    as_is = np.ones((stored.num_images, 1), dtype=np.int32)
    return float(group_means(resampled_class_ap(stored, as_is), stored.frequency)["AP"][0])


def predict_command(model: str, thresholds: Path) -> str:
    """The command that predicts at chosen thresholds.

    Args:
        model: output folder of its run, or a checkpoint.
        thresholds: the yaml.
    """
    known = ["--thresholds", str(thresholds), "--output", "found"]
    return shlex.join(["balms-seg", "predict", model, "IMAGES", *known])


def _write_csv(path: Path, stored: StoredMatches, points: Sequence[OperatingPoint]) -> None:
    def shown(value: float) -> str:
        return NOT_AVAILABLE if np.isnan(value) else f"{value:.9g}"

    with csv_file(path) as writer:
        writer.writerow(_COLUMNS)
        for index, (name, group, point) in enumerate(
            zip(stored.class_names, stored.frequency, points, strict=True)
        ):
            numbers = (
                *map(_shortest, (point.threshold, *point.threshold_interval)),
                *(point.precision, *point.precision_interval),
                *(point.recall, *point.recall_interval),
            )
            reached = _REACHED[point.is_reached]
            writer.writerow(
                [index, name, group or NOT_AVAILABLE, point.num_objects]
                + [*map(shown, numbers), point.num_right, point.num_kept, point.num_kept_right]
                + [reached]
            )


def _shortest(score: float) -> float:
    """The decimal of fewest digits that is this score in float32, in which models compare.

    One digit fewer may lie above the score, and cut off the detection that the threshold is of.
    """
    return float(str(np.float32(score)))


def _without_right(points: Sequence[OperatingPoint]) -> str:
    """What a reader of the fragment has to know of its numbers."""
    never = sum(point.is_never_found for point in points)
    cut_off = sum(point.is_cut_off for point in points)
    lines = ""
    if never:
        lines += f"# {never} of {len(points)} classes: no right detection at any score.\n"
    if cut_off:
        lines += f"# {cut_off} of {len(points)} classes: all right detections score below theirs.\n"
    return lines


def _write_yaml(
    path: Path,
    objective: str,
    points: Sequence[OperatingPoint],
    values: Sequence[float],
    following: str,
) -> None:
    path.write_text(
        f"# Scores to cut at, class by class, for {objective}:\n"
        f"#   {following}\n"
        "# Or name the run's config.yaml in _BASE_, or give these keys on the command line;\n"
        "# in Python merge this file after add_balms_config(cfg), which knows the keys.\n"
        f"{_without_right(points)}"
        "VERSION: 2  # of detectron2's keys, which it asks of what is merged\n"
        "MODEL:\n"
        "  ROI_BOX_HEAD:\n"
        f"    CLASS_THRESHOLDS: {json.dumps(values)}\n",
        encoding="utf-8",
    )
