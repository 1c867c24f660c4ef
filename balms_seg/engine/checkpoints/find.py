"""Which checkpoint of a folder a run goes on from."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balms_seg.engine.checkpoints.read_file import read_entries

logger = logging.getLogger(__name__)

LAST_CHECKPOINT = "last_checkpoint"
BEST = "model_best"
FINAL = "model_final"  # the name that detectron2's hook gives it


@dataclass(frozen=True)
class SavedRun:
    """A checkpoint that a run can go on from.

    Attributes:
        path: of the file.
        iteration: the last one that its weights have seen, from 0.
        entries: its content, tensors only mapped.
    """

    path: Path
    iteration: int
    entries: dict[str, Any]


def saved_runs(folder: str | os.PathLike[str]) -> Iterator[SavedRun]:
    """What --resume would go on from, first choice first; only what can be opened.

    The first is what `last_checkpoint` names, then come the others from the highest iteration down.
    """
    named = named_checkpoint(folder)
    if named is not None:
        found = _open(named)
        if found is not None:
            yield found
        else:
            logger.warning("%s is damaged: going back to the one before it.", named)
    others = [path for path in Path(folder).glob("*.pth") if path != named]
    opened = [run for run in map(_open, sorted(others)) if run is not None]
    yield from sorted(opened, key=lambda run: (run.iteration, run.path.name), reverse=True)


def has_checkpoints(folder: str | os.PathLike[str]) -> bool:
    """Whether a run has left checkpoints here, whole or not."""
    return (Path(folder) / LAST_CHECKPOINT).exists() or any(Path(folder).glob("*.pth"))


def named_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """The file that `last_checkpoint` names; None, with a warning, where it names none."""
    tag = Path(folder) / LAST_CHECKPOINT
    if not tag.is_file():
        return None
    try:
        name = tag.read_text(encoding="utf-8").strip()
        path = Path(folder) / name
        if name and path.is_file():
            return path
        problem = f"names {name!r}, which is not there" if name else "is empty"
    except (UnicodeDecodeError, ValueError, OSError) as error:
        problem = f"cannot be read ({error})"
    logger.warning(
        "%s %s: the whole checkpoint of the highest iteration takes its place.", tag, problem
    )
    return None


def _open(path: Path) -> SavedRun | None:
    entries = read_entries(path)
    if entries is None or "trainer" not in entries or not isinstance(entries.get("iteration"), int):
        return None
    return SavedRun(path, entries["iteration"], entries)
