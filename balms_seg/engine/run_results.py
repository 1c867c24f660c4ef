"""What is kept of an evaluation: detectron2's copy-paste lines and results.json."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectron2.data import MetadataCatalog
from detectron2.utils.events import get_event_storage

from balms_seg.evaluation import write_results
from balms_seg.evaluation.output.result_table import format_percent

if TYPE_CHECKING:
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)

_PACKAGES = ("detectron2", "torch", "torchvision", "numpy", "pycocotools", "lvis")
_JOB_START = time.perf_counter()

Metrics = Mapping[str, Mapping[str, float]]  # task -> metric -> percent


def log_copy_paste_lines(name: str, results: Metrics) -> None:
    """Log results in the three lines a task that spreadsheets take, as detectron2 does.

    Args:
        name: of the data set.
        results: task -> metric -> percent; nan reads n/a.
    """
    logger.info("Evaluation results for %s in csv format:", name)
    for task, metrics in results.items():
        shown = {name: value for name, value in metrics.items() if "-" not in name}
        logger.info("copypaste: Task: %s", task)
        logger.info("copypaste: %s", ",".join(shown))
        logger.info("copypaste: %s", ",".join(format_percent(value, 4) for value in shown.values()))


def save_results(
    cfg: CfgNode,
    metrics: Mapping[str, Metrics],
    group_sizes: Mapping[str, Any],
    evaluations: Mapping[str, str | None],
    *,
    weights: str | None = None,
) -> None:
    """Write `OUTPUT_DIR/results.json`.

    Args:
        cfg: the run's configuration.
        metrics: data set -> task -> metric -> percent.
        group_sizes: data set -> frequency group -> number of classes.
        evaluations: data set -> what the manifest of its evaluation's files calls it.
        weights: tells those that were evaluated from others.
    """
    write_results(
        Path(cfg.OUTPUT_DIR) / "results.json",
        metrics=metrics,
        group_sizes=group_sizes,
        evaluations=evaluations,
        config=cfg.dump(),
        commit=current_commit(),
        seed=cfg.SEED,
        weights=weights,
        versions=package_versions(),
        time_seconds=time.perf_counter() - _JOB_START,
        iteration=_iterations_seen(cfg.SOLVER.MAX_ITER),
        command=" ".join(sys.argv),
        **_training_subsets(cfg),
    )


def _training_subsets(cfg: CfgNode) -> dict[str, Any]:
    """How the training sets that are drawn from larger ones were drawn, seed included."""
    drawn = {name: MetadataCatalog.get(name).get("subset") for name in cfg.DATASETS.TRAIN}
    known = {name: subset for name, subset in drawn.items() if subset}
    return {"training_subsets": known} if known else {}


def current_iteration() -> int | None:
    """Where the training is that runs in this process; None where none does."""
    try:
        return get_event_storage().iter
    except (AssertionError, IndexError):  # the latter under python -O
        return None


def _iterations_seen(max_iter: int) -> int | None:
    """Iterations that the evaluated weights have seen; None outside of training."""
    iteration = current_iteration()
    if iteration is None:
        return None
    if iteration < max_iter:
        return iteration + 1  # after a step: the storage counts from zero
    # After training detectron2's trainer stands one further, also if no iteration was left to do.
    return max(iteration - 1, max_iter)


def package_versions() -> dict[str, str]:
    """Versions of Python, this package and what it needs, those that are installed."""
    package = sys.modules[__name__.partition(".")[0]]  # by name: the engine lies below its __init__
    versions = {"python": sys.version.split()[0], "balms_seg": package.__version__}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def current_commit() -> str | None:
    """The commit of a checkout of this package, marked where files differ; None elsewhere."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
