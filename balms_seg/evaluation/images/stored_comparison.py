"""Compare evaluated image classifiers, two or pairs of them, by the predictions they left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from balms_seg.evaluation.images.classifier_predictions import (
    NPZ_FILE,
    StoredPredictions,
    read_predictions,
)
from balms_seg.evaluation.images.paired_accuracy import (
    NUM_RESAMPLES,
    AccuracyChange,
    accuracy_of_groups,
    compare_accuracy,
)
from balms_seg.evaluation.images.paired_calibration import compare_calibration
from balms_seg.evaluation.output.result_table import layout_table
from balms_seg.evaluation.predictions.run_folder import files_of_run
from balms_seg.evaluation.uncertainty.difference import Difference
from balms_seg.evaluation.uncertainty.pooled_pairs import MeasuredRuns, Pairs, format_pairs
from balms_seg.evaluation.uncertainty.run_differences import (
    TrainedClasses,
    describe_differences,
    trained_classes,
)
from balms_seg.evaluation.uncertainty.run_lengths import describe_unequal_lengths
from balms_seg.evaluation.uncertainty.run_seeds import describe_seeds
from balms_seg.evaluation.uncertainty.stored_runs import short_names
from balms_seg.wording import counted

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
    names = short_names(first, second)
    unequal = describe_unequal_lengths((first, second), names)
    parts = [f"{unequal}\n"] if unequal else []
    for one, other in _shared_files((first, second), outside=outside):
        runs = read_predictions(one), read_predictions(other)
        changes = compare_accuracy(*runs, num_resamples=num_resamples, seed=seed, level=level)
        errors = compare_calibration(*runs, num_resamples=num_resamples, seed=seed, level=level)
        head = f"{one.parent} and {other.parent}, {counted(len(runs[0].predictions.keys), 'image')}"
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
    return "\n".join([*parts, describe_seeds(first, second, names)]).rstrip()


def compare_classifier_pairs(pairs: Pairs, *, level: float = 0.95, outside: bool = False) -> str:
    """A table over the training seeds for each evaluation set that pairs of runs have in common.

    Args:
        pairs: two or more.
        level: of the intervals.
        outside: whether links may lead out of the runs.

    Raises:
        ValueError: the runs share no evaluation set, or saw other images of it.
    """
    measured = []
    for files in _shared_files(pairs.runs, outside=outside):
        stored = [read_predictions(file) for file in files]
        trained = [
            _trained_classes(run, file, one, name, outside=outside)
            for run, file, one, name in zip(pairs.runs, files, stored, pairs.names, strict=True)
        ]
        title = f"accuracy, {len(stored[0].predictions.keys)} images ({files[0].parent.name})"
        values = []
        for run, one in zip(pairs.runs, stored, strict=True):
            try:
                values.append(accuracy_of_groups(one, stored[0]))
            except ValueError as error:
                raise ValueError(f"{pairs.runs[0]} and {run}: {error}") from error
        measured.append(MeasuredRuns(title, values, {}, trained))
    return format_pairs(pairs, measured, level=level)


def _shared_files(runs: Sequence[Path], *, outside: bool) -> list[tuple[Path, ...]]:
    """Files of predictions, one of each run, for each evaluation set that all runs share."""
    found = [prediction_files(run, outside=outside) for run in runs]
    if all(len(own) == 1 for own in found):
        return [tuple(file for own in found for file in own.values())]
    shared = [name for name in found[0] if all(name in own for own in found)]
    if not shared:
        sets = "; ".join(
            f"{run}: {', '.join(own) or 'none'}" for run, own in zip(runs, found, strict=True)
        )
        raise ValueError(
            f"The runs have no evaluation set in common ({sets}); name the files {NPZ_FILE} to "
            "compare."
        )
    return [tuple(own[name] for own in found) for name in shared]


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
