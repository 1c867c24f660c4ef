"""Results of another evaluation move out of the way of one that is to write in their folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from balms_seg.evaluation.output.results_file import read_results
from balms_seg.evaluation.predictions.staged_files import (
    EARLIER,
    MANIFEST,
    UNFINISHED,
    evaluation_files,
)

RESULTS_FILE, CONFIG_FILE = "results.json", "config.yaml"

_EVALUATIONS = ("inference", "inference_TTA")
_PARTS = "parts"  # folder of what an interrupted evaluation has predicted
_MOVED = re.compile(rf"{EARLIER}(evaluation|run)_\d+")
# What the same evaluation writes anew each time.
_OF_ONE_TIME = ("evaluations", "time_seconds", "commit", "versions")


def new_folder(folder: Path, what: str) -> Path:
    """Make and return `earlier_WHAT_N` in a folder, N the smallest number that is free."""
    number = 1
    while (folder / f"{EARLIER}{what}_{number}").exists():
        number += 1
    target = folder / f"{EARLIER}{what}_{number}"
    target.mkdir()
    return target


def move_evaluation(folder: Path) -> Path:
    """Move the results of an evaluation, with its configuration where that is recorded.

    What an interrupted evaluation has predicted stays, to be taken up, and so does what one that
    runs is writing.

    Args:
        folder: with results.json.

    Returns:
        Where they are.
    """
    config = recorded_config(folder / RESULTS_FILE)
    target = new_folder(folder, "evaluation")
    if config is not None:
        (target / CONFIG_FILE).write_text(config, encoding="utf-8")
    (folder / RESULTS_FILE).rename(target / RESULTS_FILE)
    for path in _files(folder):
        inside = path.relative_to(folder)
        (target / inside).parent.mkdir(parents=True, exist_ok=True)
        path.rename(target / inside)
    return target


def _files(folder: Path) -> list[Path]:
    """Those of `balms-seg evaluate`, which lie in the folder itself, and of trainings."""
    found = [path for path in [*evaluation_files(folder), folder / MANIFEST] if path.is_file()]
    for path in [path for name in _EVALUATIONS for path in (folder / name).rglob("*")]:
        parts = path.relative_to(folder).parts
        is_at_work = any(part == _PARTS or part.startswith(UNFINISHED) for part in parts)
        if path.is_file() and not is_at_work:
            found.append(path)
    return found


def require_elsewhere(file: Path, folder: Path) -> None:
    """Raise ValueError where a file is among the results that would move for its evaluation.

    Args:
        file: of detections.
        folder: that their evaluation is to be written to.
    """
    if file.resolve() in {path.resolve() for path in _files(folder)}:
        raise ValueError(
            f"{file} is of the evaluation in {folder}, which would move aside for the new one; "
            "give another --output."
        )


def move_another(folder: Path, results: Path) -> str | None:
    """Move the results in a folder, unless the new ones are of the same evaluation.

    Args:
        folder: need not hold any.
        results: results.json of the new ones, to be put there next.

    Returns:
        A sentence to warn with; None where nothing was moved.
    """
    before = folder / RESULTS_FILE
    if not before.is_file() or _lasting(before) == _lasting(results):
        return None
    target = move_evaluation(folder)
    return f"{folder} held the results of another evaluation; they are now in {target}."


def _lasting(results: Path) -> Any:
    """What a results.json says each time; None where it is damaged."""
    try:
        record = json.loads(results.read_text(encoding="utf-8"))
        return {key: value for key, value in record.items() if key not in _OF_ONE_TIME}
    except (ValueError, AttributeError):
        return None


def recorded_config(results: Path) -> str | None:
    """Configuration of the evaluation that wrote a results.json; None where it does not say."""
    try:
        config = read_results(results).get("config")
    except ValueError:
        return None
    return config if isinstance(config, str) else None


def run_name(path: Path, length: int = 1) -> str:
    """What a run is called: the last parts of its path.

    What was moved aside is called with the run that it is of, `my_run/earlier_evaluation_1`.

    Args:
        path: output folder, or a file in it.
        length: how many parts at least.
    """
    parts = path.resolve().parts
    moved = [place for place, part in enumerate(parts) if _MOVED.fullmatch(part)]
    start = min([len(parts) - length, *(place - 1 for place in moved)])
    return "/".join(parts[max(start, 0) :])


def is_moved(name: str) -> bool:
    """Whether a name of `run_name` is of something moved aside."""
    return any(_MOVED.fullmatch(part) for part in name.split("/"))
