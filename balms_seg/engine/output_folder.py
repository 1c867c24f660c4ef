"""The output folder of a run: a new run does not mix with what an earlier one left there."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from balms_seg.durable_files import clear_leftovers

logger = logging.getLogger(__name__)

# By these a folder is known to be used; a run that failed before its first iteration leaves none.
_TRACES = ("*.pth", "last_checkpoint", "metrics.json", "results.json")
_WRITTEN = (
    *_TRACES,
    *("config.yaml", "log.txt*", "meta_rates.*", "events.out.tfevents.*", "report.html"),
    *("inference", "inference_TTA", "training_pictures"),
)


def prepare_output_folder(
    folder: str | os.PathLike[str], *, resume: bool, overwrite: bool = False, weights: str = ""
) -> None:
    """Refuse a folder that an earlier run used, unless this one goes on from it or clears it.

    Leftovers of a process that was killed while writing are removed. To be called before anything
    is written there, by the main process.

    Args:
        folder: need not exist.
        resume: the run goes on from what is there; in an empty folder it starts.
        overwrite: move what is there into a new folder `earlier_run_N` within.
        weights: where the run starts from; must not be among what is moved.

    Raises:
        ValueError: the folder is used; names the ways out.
    """
    folder = Path(folder)
    if resume and overwrite:
        raise ValueError("Expected --resume or --overwrite, but got both: go on, or start anew.")
    for path in clear_leftovers(folder):
        logger.warning("Removed %s, which an interrupted run had begun to write.", path)
    traces = _matches(folder, _TRACES)
    if resume or not traces:
        return
    if not overwrite:
        raise ValueError(
            f"OUTPUT_DIR {folder} holds an earlier run ({', '.join(p.name for p in traces[:4])}). "
            "Give --resume to go on from it, another OUTPUT_DIR, or --overwrite to move what is "
            "there into a folder of its own."
        )
    written = _matches(folder, _WRITTEN)
    if weights and any(Path(weights).resolve().is_relative_to(p.resolve()) for p in written):
        raise ValueError(
            f"MODEL.WEIGHTS {weights} is in OUTPUT_DIR, from where --overwrite would move it; give "
            "another OUTPUT_DIR."
        )
    target = _new_folder(folder)
    for path in written:
        path.rename(target / path.name)
    logger.warning("Moved what an earlier run left in %s to %s.", folder, target)


def _matches(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def _new_folder(folder: Path) -> Path:
    number = 1
    while (folder / f"earlier_run_{number}").exists():
        number += 1
    target = folder / f"earlier_run_{number}"
    target.mkdir()
    return target
