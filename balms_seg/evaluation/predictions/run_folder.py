"""What is read of a run's folder, which may come from someone else: nothing outside of it."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from balms_seg.evaluation.predictions.staged_files import EARLIER, require_one_evaluation

# What reading raises that expects other types, entries or formats; each reader's own ValueErrors,
# which say more, pass.
_ODD = (
    *(AttributeError, IndexError, KeyError, RecursionError, TypeError),
    *(csv.Error, yaml.YAMLError, zipfile.BadZipFile),
)


@contextmanager
def odd_files_explained(*runs: Path) -> Iterator[None]:
    """While it holds, files that are not built as this package writes them end in a ValueError.

    Args:
        runs: that are read, for the message.

    Raises:
        ValueError: something in them has another type, or lacks an entry.
    """
    try:
        yield
    except _ODD as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{', '.join(map(str, runs))}: a file is not built as this package writes it "
            f"({type(error).__name__}: {said}); evaluate again with --eval-only."
        ) from error


def contained(path: Path, folder: Path, *, outside: bool = False) -> Path:
    """A path in a run's folder, unless a link or `..` leads out of it.

    Args:
        path: need not exist.
        folder: of the run.
        outside: whether what lies elsewhere may be read.

    Raises:
        ValueError: it leads out of the folder.
    """
    if not outside and not is_within(path, folder):
        raise ValueError(
            f"{path} leads out of {folder}, to {path.resolve()}; only what lies in the folder is "
            "read. If you trust whoever made it, say --read-outside."
        )
    return path


def is_within(path: Path, folder: Path) -> bool:
    """Whether what a path leads to lies in a folder."""
    return path.resolve().is_relative_to(folder.resolve())


def files_of_run(run: Path, pattern: str, *, outside: bool = False) -> list[Path]:
    """Files of a finished evaluation in a run's folder, or the one file that is named.

    Those that earlier runs and evaluations left in it are passed over.

    Args:
        run: output folder, or a file.
        pattern: of the files' names.
        outside: whether links may lead out of the folder.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: a file leads out of the folder, or is of another evaluation than the run.
    """
    if not run.exists():
        raise FileNotFoundError(f"{run} does not exist.")
    if run.suffix == Path(pattern).suffix:
        run = run.resolve()  # whoever names a link means what it leads to
        folder, files = run.parent, [run]
    else:
        folder = run if run.is_dir() else run.parent
        files = [path for path in sorted(folder.rglob(pattern)) if not _is_earlier(path, folder)]
    for file in files:
        contained(file, folder, outside=outside)
        require_one_evaluation([file], _record_beside(file, folder, outside=outside))
    return files


def unfinished_run(run: Path) -> str:
    """Sentences on an evaluation or a training that ended too early; empty where none did.

    Args:
        run: output folder, or a file in it.
    """
    folder = run if run.is_dir() else run.parent
    return _unfinished_evaluation(folder) or _unfinished_training(folder)


def _unfinished_evaluation(folder: Path) -> str:
    """Where one left predictions and no results."""
    parts = [p for p in folder.rglob("parts/predictions_*.jsonl") if not _is_earlier(p, folder)]
    if not parts:
        return ""
    return (
        f"Its evaluation was interrupted, or is still running; what it has predicted is in "
        f"{parts[0].parent}. The same command goes on with the other images: --eval-only as it "
        "was, or the training with --resume."
    )


def _unfinished_training(folder: Path) -> str:
    """Where one left checkpoints, and not the final one."""
    left = [folder / "last_checkpoint", folder / "config.yaml"]
    if not all(path.is_file() for path in left) or (folder / "model_final.pth").is_file():
        return ""
    return (
        "Its training was interrupted, or is still running: it has checkpoints, and none is the "
        "final one. The command that began it goes on with --resume (balms-seg train "
        "--config-file ... --resume), and evaluates DATASETS.TEST at its end."
    )


def _record_beside(file: Path, within: Path, *, outside: bool) -> dict[str, Any]:
    """The results.json of the run that a file is of: in its folder or above, not above `within`."""
    for folder in file.parents:
        path = folder / "results.json"
        if path.is_file():
            contained(path, within, outside=outside)
            with suppress(ValueError):
                record = json.loads(path.read_text(encoding="utf-8"))
                return record if isinstance(record, dict) else {}
        if folder == within:
            break
    return {}


def _is_earlier(path: Path, folder: Path) -> bool:
    return any(part.startswith(EARLIER) for part in path.relative_to(folder).parts)
