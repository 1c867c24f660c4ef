"""Files of one evaluation, which appear together once all of them are written."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

_NAMING = ("per_class_*.json", "calibration_*.json", "matches_*.npz", "predictions_*.npz")
EARLIER = "earlier_"  # begins the names of folders that results were moved to, out of the way
EVALUATION = "evaluation"  # the entry of a file that says which evaluation it belongs to


@contextmanager
def appearing_together(folder: str | Path, evaluation: str) -> Iterator[Path]:
    """A folder to write in; what is there at the end moves to `folder`, all or nothing.

    Whoever writes beside this does not mix with it but by the few renamings at the end; what tells
    a mixed set then is that every file names its evaluation.

    Args:
        folder: made where missing.
        evaluation: what the evaluation is called; no other process writes under this name.
    """
    folder = Path(folder)
    staging = folder / f".unfinished_{evaluation}"
    shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
    staging.mkdir(parents=True)
    try:
        yield staging
        written = {path.name for path in staging.iterdir()}
        for name in sorted(written):
            os.replace(staging / name, folder / name)
        for path in evaluation_files(folder):
            if path.name not in written:
                path.unlink(missing_ok=True)  # of a task that this evaluation left out
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def files_of_run(folder: Path, pattern: str) -> list[Path]:
    """Files below a folder, sorted, without those of earlier runs and evaluations in it."""
    return [
        path
        for path in sorted(folder.rglob(pattern))
        if not any(part.startswith(EARLIER) for part in path.relative_to(folder).parts)
    ]


def evaluation_files(folder: Path) -> list[Path]:
    """The files in a folder that name their evaluation, but results.json."""
    return sorted(path for pattern in _NAMING for path in folder.glob(pattern))


def require_one_evaluation(paths: Iterable[Path], record: Mapping[str, Any]) -> None:
    """Refuse files that another evaluation wrote than the one that results.json records.

    Args:
        paths: json and npz files.
        record: of results.json; one that names no evaluation checks nothing.

    Raises:
        ValueError: a file is of another evaluation; names it.
    """
    evaluations = {name for name in (record.get("evaluations") or {}).values() if name}
    for path in paths if evaluations else ():
        if evaluation_of(path) not in evaluations:
            raise ValueError(
                f"{path} is of another evaluation than results.json: one was interrupted or is "
                "being written, or two wrote to the same folder. Evaluate again with --eval-only."
            )


def recorded_beside(file: Path, *, within: Path) -> dict[str, Any]:
    """The results.json of the run that a file is of: in its folder or above, not above `within`."""
    for folder in file.parents:
        if (folder / "results.json").is_file():
            with suppress(ValueError):
                record = json.loads((folder / "results.json").read_text(encoding="utf-8"))
                return record if isinstance(record, dict) else {}
        if folder == within:
            break
    return {}


def evaluation_of(path: Path) -> str | None:
    """The evaluation that a file names; None where it names none or cannot be read."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as content:
                return str(content[EVALUATION])
        return json.loads(path.read_text(encoding="utf-8")).get(EVALUATION)
    except (OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile):
        return None
