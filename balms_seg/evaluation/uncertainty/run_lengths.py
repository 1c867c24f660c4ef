"""Where runs trained too shortly, or not equally long, for what they are compared in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from balms_seg.annotations.errors import counted
from balms_seg.evaluation.uncertainty.run_seeds import CONFIG_FILE, Training, read_training

_TELLING_ITERATIONS = 300  # the shortest schedule of which differences are published


def describe_unequal_lengths(runs: Sequence[Path], names: Sequence[str]) -> str:
    """Say where some runs trained for more iterations than others, or on larger batches.

    Args:
        runs: output folders, or files in them.
        names: what to call them.

    Returns:
        A sentence or two; empty where all trained equally long, or do not say.
    """
    trainings = [read_training(run) for run in runs]
    known = [one for one in zip(names, trainings, strict=True) if one[1].iteration is not None]
    tell_batch = all(training.batch_size is not None for _, training in known)
    lengths = {(one.iteration, one.batch_size if tell_batch else None) for _, one in known}
    if len(lengths) < 2:
        return ""
    shown = "; ".join(f"{name} for {_length(training)}" for name, training in known)
    staged = [name for name, training in known if training.has_first_stage]
    stages = f" The first stage of {', '.join(staged)} is not counted." if staged else ""
    images = {training.images for _, training in known}
    unequal = "in equal batches" if len(images) == 1 and None not in images else "equally long"
    return f"Not trained {unequal}: {shown}. Their differences are of that, too.{stages}"


def _length(training: Training) -> str:
    assert training.iteration is not None  # else it is not shown
    length = counted(training.iteration, "iteration")
    if training.batch_size is not None:
        length += f" of {counted(training.batch_size, 'image')}, {training.images} in all"
    return f"{length} (by its {CONFIG_FILE})" if training.is_planned else length


def describe_short_runs(runs: Sequence[Path], names: Sequence[str]) -> str:
    """Say where runs are too short to tell which of two methods is better.

    Args:
        runs: output folders, or files in them.
        names: what to call them.

    Returns:
        A sentence; empty where all are long enough, or do not say.
    """
    iterations = [read_training(run).iteration for run in runs]
    short = [
        f"{name} for {number}"
        for name, number in zip(names, iterations, strict=True)
        if number is not None and number < _TELLING_ITERATIONS
    ]
    if not short:
        return ""
    return (
        f"Trained for few iterations: {', '.join(short)}. So short runs do not say which method is "
        f"better; ours were compared from {_TELLING_ITERATIONS} on (docs/results/toy_lengths.md)."
    )
