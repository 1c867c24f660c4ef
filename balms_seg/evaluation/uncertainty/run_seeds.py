"""Whether two runs were trained on the same draws, by the seeds that their results.json name."""

from __future__ import annotations

from pathlib import Path

from balms_seg.evaluation.output.results_file import read_results
from balms_seg.evaluation.predictions.run_folder import is_within

RESULTS_FILE = "results.json"


def describe_seeds(first: Path, second: Path, names: tuple[str, str]) -> str:
    """Say where two runs are not paired by their training seed.

    Args:
        first: output folder of a run, or a file in it.
        second: of another.
        names: what to call them.

    Returns:
        A sentence; empty where both were trained with one seed.
    """
    seeds = [_training_seed(path) for path in (first, second)]
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


def _training_seed(path: Path) -> int | None:
    """Of the results.json in a run's folder; None where it says none of training."""
    folder = path if path.is_dir() else path.parent
    file = folder / RESULTS_FILE
    if not file.is_file() or not is_within(file, folder):
        return None
    record = read_results(file)
    # An evaluation alone draws a seed of its own.
    return None if record["iteration"] is None else record["seed"]
