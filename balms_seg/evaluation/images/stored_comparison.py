"""Compare two evaluated image classifiers by the predictions that they left."""

from __future__ import annotations

from pathlib import Path

from balms_seg.evaluation.images.classifier_predictions import (
    NPZ_FILE,
    StoredPredictions,
    read_predictions,
)
from balms_seg.evaluation.images.paired_accuracy import (
    NUM_RESAMPLES,
    AccuracyChange,
    compare_accuracy,
)
from balms_seg.evaluation.images.paired_calibration import compare_calibration
from balms_seg.evaluation.output.result_table import layout_table
from balms_seg.evaluation.predictions.run_folder import files_of_run
from balms_seg.evaluation.uncertainty.difference import Difference
from balms_seg.evaluation.uncertainty.run_differences import (
    TrainedClasses,
    describe_differences,
    trained_classes,
)
from balms_seg.evaluation.uncertainty.run_seeds import describe_seeds
from balms_seg.evaluation.uncertainty.stored_runs import short_names

PER_CLASS_FILE = "per_class_classification.json"


def prediction_files(path: Path, *, outside: bool = False) -> dict[str, Path]:
    """Predictions of a run per folder within it; empty where it is no image classifier's.

    Args:
        path: its output folder, or a file of predictions.
        outside: whether links may lead out of the folder.
    """
    if path.name == NPZ_FILE:
        return {"": files_of_run(path, NPZ_FILE, outside=outside)[0]}
    if not path.is_dir():
        return {}
    files = files_of_run(path, NPZ_FILE, outside=outside)
    return {file.parent.relative_to(path).as_posix(): file for file in files}


def compare_stored_classifiers(
    first: Path,
    second: Path,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
    outside: bool = False,
) -> str:
    """A table for each evaluation set that two runs have in common.

    Args:
        first: output folder of a run, or a file of predictions in it.
        second: of another.
        num_resamples: of the images.
        seed: of the resamples.
        level: of the intervals.
        outside: whether links may lead out of the runs.

    Raises:
        ValueError: the runs share no evaluation set, or saw other images of it.
    """
    ours, theirs = (prediction_files(run, outside=outside) for run in (first, second))
    if len(ours) == len(theirs) == 1:
        pairs = [(*ours.values(), *theirs.values())]
    else:
        pairs = [(ours[name], theirs[name]) for name in ours if name in theirs]
    if not pairs:
        raise ValueError(
            f"{first} and {second} have no evaluation set in common: {', '.join(ours) or 'none'} "
            f"and {', '.join(theirs) or 'none'}; name the files {NPZ_FILE} to compare."
        )
    parts = []
    for one, other in pairs:
        runs = read_predictions(one), read_predictions(other)
        changes = compare_accuracy(*runs, num_resamples=num_resamples, seed=seed, level=level)
        errors = compare_calibration(*runs, num_resamples=num_resamples, seed=seed, level=level)
        head = f"{one.parent} and {other.parent}, {len(runs[0].predictions.keys)} images"
        names = short_names(first, second)
        tables = [
            format_changes(changes, names=names, level=level),
            format_errors(errors, names=names, level=level),
        ]
        trained = (
            _trained_classes(run, file, stored, name, outside=outside)
            for run, file, stored, name in zip(
                (first, second), (one, other), runs, names, strict=True
            )
        )
        lines = [head, *tables, *describe_differences(*trained)]
        parts.append("\n".join(lines) + "\n")
    return "\n".join([*parts, describe_seeds(first, second, short_names(first, second))]).rstrip()


def _trained_classes(
    run: Path, file: Path, stored: StoredPredictions, name: str, *, outside: bool
) -> TrainedClasses:
    groups = dict(zip(stored.class_names, stored.groups, strict=True))
    return trained_classes(run, file.with_name(PER_CLASS_FILE), groups, name, outside=outside)


def format_changes(
    changes: dict[str, AccuracyChange], *, names: tuple[str, str], level: float = 0.95
) -> str:
    """A table in percent, one line a metric, its columns headed by the runs' names."""
    first, second = names
    head = ["accuracy", first, second, f"{second} - {first}", f"{100 * level:g}% interval"]
    head += [f"only {first}", f"only {second}"]
    rows = [[*head, "p", "larger than chance"]]
    for name, change in changes.items():
        rows.append(
            [
                name,
                f"{100 * change.first:.2f}",
                f"{100 * change.second:.2f}",
                f"{100 * change.value:+.2f}",
                f"{100 * change.low:+.2f} to {100 * change.high:+.2f}",
                str(change.num_lost),
                str(change.num_gained),
                f"{change.p_value:.3f}",
                "yes" if change.is_larger_than_chance else "no",
            ]
        )
    return "\n".join(
        [
            *layout_table(rows),
            "Only: images that this run alone gets right; p: McNemar's exact test of "
            "them. Groups: mean over their classes.",
        ]
    )


def format_errors(
    changes: dict[str, Difference], *, names: tuple[str, str], level: float = 0.95
) -> str:
    """A table of how far probabilities are from the truth: ECE in percent, likelihood in nats."""
    first, second = names
    head = ["calibration", first, second, f"{second} - {first}", f"{100 * level:g}% interval"]
    rows = [[*head, "larger than chance"]]
    for name, scale, digits in (("ece", 100, 2), ("nll", 1, 3)):
        change = changes[name]
        ends = (f"{scale * end:+.{digits}f}" for end in (change.low, change.high))
        rows.append(
            [
                name,
                f"{scale * change.first:.{digits}f}",
                f"{scale * change.second:.{digits}f}",
                f"{scale * change.value:+.{digits}f}",
                " to ".join(ends),
                "yes" if change.is_larger_than_chance else "no",
            ]
        )
    return "\n".join(
        [
            *layout_table(rows),
            "Less is better. ece: mean distance of probability and share of right ones, in "
            "percent; nll: negative log-likelihood of the labels, in nats.",
        ]
    )
