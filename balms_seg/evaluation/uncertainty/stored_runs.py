"""Compare evaluated runs, two or pairs of them, by the matches that they left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS
from balms_seg.evaluation.predictions.match_file import StoredMatches, read_matches
from balms_seg.evaluation.predictions.moved_aside import is_moved, run_name
from balms_seg.evaluation.predictions.run_folder import files_of_run, unfinished_run
from balms_seg.evaluation.uncertainty.pooled_pairs import MeasuredRuns, Pairs, format_pairs
from balms_seg.evaluation.uncertainty.resampled_ap import ap_of_groups, classes_with_objects
from balms_seg.evaluation.uncertainty.run_comparison import (
    NOTHING_YET,
    compare_runs,
    find_next_to_nothing,
    format_comparison,
)
from balms_seg.evaluation.uncertainty.run_differences import (
    TrainedClasses,
    describe_differences,
    trained_classes,
)
from balms_seg.evaluation.uncertainty.run_lengths import (
    describe_short_runs,
    describe_unequal_lengths,
)
from balms_seg.evaluation.uncertainty.run_seeds import describe_seeds
from balms_seg.wording import counted

_Key = tuple[str, str]  # fingerprint of the evaluation set, task
RunMatches = dict[_Key, StoredMatches]
_LONG_NAME = 20  # letters


class _MatchFile(NamedTuple):
    path: Path
    stored: StoredMatches


def compare_stored_runs(
    first: Path,
    second: Path,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    outside: bool = False,
) -> str:
    """A table for each evaluation that two runs have in common.

    Args:
        first: output folder of a run, or a file in it.
        second: of another.
        num_resamples: of the images.
        seed: of the resamples.
        level: of the intervals.
        outside: whether links may lead out of the runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a run holds no matches or two of a kind, or the runs share no evaluation.
    """
    ours, theirs = (_files_of(run, outside=outside) for run in (first, second))
    shared = [key for key in ours if key in theirs]
    if not shared:
        raise ValueError(_nothing_in_common(first, second, ours, theirs))
    names = short_names(first, second)
    unequal = describe_unequal_lengths((first, second), names)
    parts, found = [f"{unequal}\n"] if unequal else [], []
    for key in shared:
        one, other = ours[key], theirs[key]
        differences = compare_runs(
            one.stored, other.stored, num_resamples=num_resamples, seed=seed, level=level
        )
        found.append(differences)
        head = f"{_title(key, ours)}; difference: {names[1]} minus {names[0]}"
        table = format_comparison(differences, names=names, level=level)
        classes = (
            _trained_classes(run, file, name, outside=outside)
            for run, file, name in zip((first, second), (one, other), names, strict=True)
        )
        parts.append("\n".join([head, table, *describe_differences(*classes)]) + "\n")
    too_early = describe_short_runs((first, second), names)
    if all(map(find_next_to_nothing, found)):
        too_early = NOTHING_YET
    notes = [describe_seeds(first, second, names), too_early]
    return "\n".join([*parts, *filter(None, notes)]).rstrip()


def compare_stored_pairs(pairs: Pairs, *, level: float = 0.95, outside: bool = False) -> str:
    """A table over the training seeds for each evaluation that pairs of runs have in common.

    Args:
        pairs: two or more.
        level: of the intervals.
        outside: whether links may lead out of the runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a run holds no matches or two of a kind, or there is no evaluation that all
            runs share.
    """
    first: dict[_Key, _MatchFile] = {}
    values: dict[_Key, list[dict[str, float]]] = {}
    trained: dict[_Key, list[TrainedClasses]] = {}
    left_out = []
    for run, name in zip(pairs.runs, pairs.names, strict=True):
        files = _files_of(run, outside=outside)  # one run at a time, as matches are large
        first = first or files
        shared = [key for key in first if key in files]
        if not shared:
            raise ValueError(_nothing_in_common(pairs.runs[0], run, first, files))
        left_out += [
            f"{file.stored.task} is left out: {name} was not evaluated in it on the same images."
            for key, file in first.items()
            if key not in files
        ]
        for key in shared:
            frequency = first[key].stored.frequency
            values.setdefault(key, []).append(ap_of_groups(files[key].stored, frequency))
            classes = _trained_classes(run, files[key], name, outside=outside)
            trained.setdefault(key, []).append(classes)
    measured = [
        MeasuredRuns(
            _title(key, first),
            values[key],
            classes_with_objects(file.stored),
            trained[key],
        )
        for key, file in first.items()
        if len(values[key]) == len(pairs.runs)
    ]
    if not measured:
        raise ValueError(f"There is no evaluation that all runs share. {' '.join(left_out)}")
    return "\n".join([format_pairs(pairs, measured, level=level), *left_out])


def short_names(first: Path, second: Path) -> tuple[str, str]:
    """The last parts of two paths, as many as tell them apart; A and B for one and the same.

    Long names go without the words that both end in, so that they fit at the head of a column.
    """
    longest = max(len(path.resolve().parts) for path in (first, second))
    for length in range(1, longest + 1):
        names = run_name(first, length), run_name(second, length)
        if names[0] != names[1]:
            return names if any(map(is_moved, names)) else _without_common_end(*names)
    return "A", "B"


def _without_common_end(first: str, second: str) -> tuple[str, str]:
    ours, theirs = first.split("_"), second.split("_")
    while (
        max(len("_".join(words)) for words in (ours, theirs)) > _LONG_NAME
        and min(len(ours), len(theirs)) > 1
        and ours[-1] == theirs[-1]
    ):
        ours, theirs = ours[:-1], theirs[:-1]
    return "_".join(ours), "_".join(theirs)


def load_run(path: Path, *, outside: bool = False) -> RunMatches:
    """Matches of a run.

    Args:
        path: its output folder, or a file in it.
        outside: whether links may lead out of it.
    """
    return {key: one.stored for key, one in _files_of(path, outside=outside).items()}


def _trained_classes(run: Path, file: _MatchFile, name: str, *, outside: bool) -> TrainedClasses:
    stored = file.stored
    groups = {
        class_name: FREQUENCY_GROUPS.get(letter)
        for class_name, letter in zip(stored.class_names, stored.frequency, strict=True)
    }
    per_class = file.path.with_name(f"per_class_{stored.task}.json")
    return trained_classes(run, per_class, groups, name, outside=outside)


def _files_of(path: Path, *, outside: bool) -> dict[_Key, _MatchFile]:
    files = files_of_run(path, "matches_*.npz", outside=outside)
    if not files:
        remedy = (
            "Evaluate the run with balms-seg train --eval-only, or its detections with balms-seg "
            "evaluate --output."
        )
        raise ValueError(
            f"Expected matches_TASK.npz in {path}, but found none. {unfinished_run(path) or remedy}"
        )
    run: dict[_Key, _MatchFile] = {}
    for file in files:
        stored = read_matches(file)
        key = stored.fingerprint, stored.task
        if key in run:
            raise ValueError(
                f"{path} holds two evaluations of {stored.task} on the same data set, "
                f"{run[key].path} and {file}; name the one to compare."
            )
        run[key] = _MatchFile(file, stored)
    return run


def _title(key: _Key, run: Mapping[_Key, _MatchFile]) -> str:
    """Task and images; the folder, too, where a run has several evaluations of the task."""
    path, stored = run[key]
    is_alone = [task for _, task in run].count(stored.task) == 1
    folder = "" if is_alone else f" ({path.parent.name})"
    return f"{stored.task}, {counted(stored.num_images, 'image')}{folder}"


def _nothing_in_common(
    first: Path, second: Path, ours: Mapping[_Key, _MatchFile], theirs: Mapping[_Key, _MatchFile]
) -> str:
    return (
        f"{first} and {second} have no evaluation in common: they are of different data sets "
        f"or tasks ({_describe(ours)}; {_describe(theirs)})."
    )


def _describe(run: Mapping[_Key, _MatchFile]) -> str:
    return ", ".join(
        f"{one.task} on {counted(one.num_images, 'image')} and "
        f"{counted(len(one.class_names), 'class')}"
        for one in (file.stored for file in run.values())
    )
