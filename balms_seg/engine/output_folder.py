"""The output folder of a run: a new run does not mix with what an earlier one left there."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from balms_seg.durable_files import clear_leftovers, write_whole
from balms_seg.evaluation.predictions.moved_aside import (
    CONFIG_FILE,
    move_evaluation,
    new_folder,
    recorded_config,
)
from balms_seg.evaluation.predictions.staged_files import EARLIER

logger = logging.getLogger(__name__)

# By these a folder is known to be used; a run that failed before its first iteration leaves none.
_TRACES = ("*.pth", "last_checkpoint", "metrics.json", "results.json")
_WRITTEN = (
    *_TRACES,
    *(CONFIG_FILE, "log.txt*", "meta_rates.*", "events.out.tfevents.*", "report.html"),
    *("suspicious_labels.csv", "thresholds.csv", "thresholds.yaml"),
    *("inference", "inference_TTA", "training_pictures", f"{EARLIER}evaluation_*"),
)
_TRAINED = ("last_checkpoint", "metrics.json")  # what only a training leaves


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
    earlier = earlier_run(folder)
    if resume or not earlier:
        return
    if not overwrite:
        raise ValueError(
            f"{earlier} Give --resume to go on from it, another OUTPUT_DIR, or --overwrite to move "
            "what is there into a folder of its own."
        )
    written = _matches(folder, _WRITTEN)
    if weights and any(Path(weights).resolve().is_relative_to(p.resolve()) for p in written):
        raise ValueError(
            f"MODEL.WEIGHTS {weights} is in OUTPUT_DIR, from where --overwrite would move it; give "
            "another OUTPUT_DIR."
        )
    target = new_folder(folder, "run")
    for path in written:
        path.rename(target / path.name)
    logger.warning("Moved what an earlier run left in %s to %s.", folder, target)


def earlier_run(folder: str | os.PathLike[str]) -> str:
    """A sentence that names what an earlier run left in a folder; empty where it left nothing."""
    traces = _matches(Path(folder), _TRACES)
    if not traces:
        return ""
    return f"OUTPUT_DIR {folder} holds an earlier run ({', '.join(p.name for p in traces[:4])})."


@contextmanager
def without_failed_start(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Where a training fails before its first losses, it leaves no trace to be refused later.

    metrics.json is opened with the trainer, before the weights are loaded.

    Args:
        folder: OUTPUT_DIR.
    """
    try:
        yield
    except BaseException:
        metrics = Path(folder) / "metrics.json"
        with suppress(FileNotFoundError):  # another rank's has gone
            if not metrics.stat().st_size:
                metrics.unlink()
        raise


def require_other_folder(weights: str, folder: str | os.PathLike[str]) -> None:
    """Raise ValueError where a run starts from weights that it would write over.

    Args:
        weights: MODEL.WEIGHTS.
        folder: OUTPUT_DIR.
    """
    path = Path(weights)
    is_there = path.is_file() and path.resolve().parent == Path(folder).resolve()
    if is_there and path.name.startswith("model_"):
        raise ValueError(
            f"MODEL.WEIGHTS {weights} lies in OUTPUT_DIR, where this run would write over it; give "
            "the run an OUTPUT_DIR of its own."
        )


def _matches(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def set_evaluation_aside(
    folder: str | os.PathLike[str], *, config: str, weights: str
) -> str | None:
    """Move the results of another evaluation out of the way of one that is to write here.

    The same evaluation of the same file may be repeated; that replaces what it wrote. What an
    interrupted evaluation has predicted stays, to be taken up, and so does what one that runs is
    writing, that of a training perhaps.

    Args:
        folder: OUTPUT_DIR; need not exist.
        config: of the evaluation, as yaml.
        weights: file that it evaluates; "" where that is not known yet.

    Returns:
        A sentence to warn with; None where nothing was moved.
    """
    folder = Path(folder)
    results = folder / "results.json"
    if not results.is_file():
        return None
    before = recorded_config(results)
    is_same = before is not None and _settings(before) == _settings(config)
    if is_same and _is_newer(results, weights):
        return None
    target = move_evaluation(folder)
    return (
        f"OUTPUT_DIR {folder} held the results of another evaluation; they and its "
        f"configuration are now in {target}. To keep them apart, give another OUTPUT_DIR."
    )


def _is_newer(results: Path, weights: str) -> bool:
    """Than a file of weights, which is there."""
    return os.path.isfile(weights) and os.path.getmtime(weights) <= os.path.getmtime(results)


def _settings(config: str) -> Any:
    """All but the seed, which is drawn anew where none is set."""
    content = yaml.safe_load(config)
    return {key: value for key, value in content.items() if key != "SEED"}


@contextmanager
def training_config_kept(folder: str | os.PathLike[str], is_written_over: bool) -> Iterator[None]:
    """In the folder of a training, bring its config.yaml back at the end.

    detectron2's setup of an evaluation writes its own there, which results.json has as well.

    Args:
        folder: OUTPUT_DIR.
        is_written_over: False: nothing is done.
    """
    path = Path(folder) / CONFIG_FILE
    is_of_training = path.is_file() and bool(_matches(path.parent, _TRAINED))
    content = path.read_bytes() if is_written_over and is_of_training else None
    try:
        yield
    finally:
        if content is not None:
            write_whole(path, lambda file: file.write(content))
            logger.info("%s is the training's again; the evaluation's is in results.json.", path)
