"""What two runs share of their training, by what their results.json say: weights, or a seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from balms_seg.evaluation.output.results_file import read_results
from balms_seg.evaluation.predictions.run_folder import is_within

RESULTS_FILE = "results.json"


def describe_seeds(first: Path, second: Path, names: tuple[str, str]) -> str:
    """Say whether chance in training is among the differences of two runs.

    Args:
        first: output folder of a run, or a file in it.
        second: of another.
        names: what to call them.

    Returns:
        A sentence; empty where both were trained with one seed.
    """
    records = [_record(path) for path in (first, second)]
    weights = [record.get("weights") for record in records]
    if weights[0] is not None and weights[0] == weights[1]:
        return (
            f"{names[0]} and {names[1]} evaluate the same weights: chance in training has no part "
            "in these differences."
        )
    seeds = [_training_seed(record) for record in records]
    if None not in seeds and seeds[0] == seeds[1]:
        return ""
    shown = " and ".join(
        f"{name} {'of unknown seed' if seed is None else f'of seed {seed}'}"
        for name, seed in zip(names, seeds, strict=True)
    )
    return (
        f"Not paired in training: {shown}. Chance in training adds to these intervals; train both "
        "with one SEED, better with several."
    )


def _record(path: Path) -> Mapping[str, Any]:
    """The results.json in a run's folder; empty where there is none."""
    folder = path if path.is_dir() else path.parent
    file = folder / RESULTS_FILE
    return read_results(file) if file.is_file() and is_within(file, folder) else {}


def _training_seed(record: Mapping[str, Any]) -> int | None:
    """None where the record is not of a training: an evaluation alone draws a seed of its own."""
    return None if record.get("iteration") is None else record["seed"]
