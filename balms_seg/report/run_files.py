"""What a run left in its output folder, read without the code that trained it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from balms_seg.class_statistics import CLASSIFICATION_GROUPS, LVIS_GROUPS
from balms_seg.evaluation.output.results_file import read_results
from balms_seg.evaluation.predictions.moved_aside import run_name
from balms_seg.evaluation.predictions.run_folder import (
    contained,
    is_within,
    unfinished_run,
)
from balms_seg.evaluation.predictions.staged_files import (
    DETECTIONS_FILE,
    evaluation_files,
    require_one_evaluation,
)
from balms_seg.report.task_files import (
    IMAGE_TASK,
    TASK_NAMES,
    TaskFiles,
    read_csv,
    read_image_task,
    read_task,
)

THRESHOLDS_FILE = "thresholds.csv"
_FILES = (
    *("results.json", "metrics.json", "meta_rates.csv", "config.yaml", "inference"),
    THRESHOLDS_FILE,
)


@dataclass(frozen=True, eq=False)
class Run:
    """One output folder, seen on one data set.

    Attributes:
        name: short and different from those of the other runs.
        folder: where everything was read.
        dataset: the evaluation set.
        metrics: percent per task and metric name.
        group_sizes: per group name, `classes` and `with_ground_truth`; empty where unknown.
        tasks: per task, masks first.
        curves: lines of metrics.json, in order of iteration.
        learned_rates: rows of meta_rates.csv as text.
        detections: file with the detections, or None.
        thresholds: rows of thresholds.csv as text.
        config: the resolved configuration, as text.
        record: all of results.json.
        missing: what the folder lacks, one sentence each.
    """

    name: str
    folder: Path
    dataset: str
    metrics: dict[str, dict[str, float]]
    group_sizes: dict[str, dict[str, int]]
    tasks: dict[str, TaskFiles]
    curves: list[dict[str, Any]]
    learned_rates: list[dict[str, str]]
    detections: Path | None
    thresholds: list[dict[str, str]]
    config: str
    record: dict[str, Any]
    missing: list[str] = field(default_factory=list)

    @property
    def main_task(self) -> str:
        """Masks where there are any."""
        return next(iter(self.tasks))

    @property
    def groups(self) -> tuple[str, ...]:
        """Frequency groups, rarest first."""
        return CLASSIFICATION_GROUPS if self.main_task == IMAGE_TASK else LVIS_GROUPS


def read_run(
    folder: str | Path,
    *,
    name: str | None = None,
    dataset: str | None = None,
    outside: bool = False,
) -> Run:
    """Read an output folder of training, of --eval-only or of balms-seg evaluate --output.

    Args:
        folder: with results.json.
        name: for people; the folder's name where None.
        dataset: one of those in results.json; the first where None.
        outside: whether links and paths may lead out of the folder.

    Raises:
        FileNotFoundError: the folder does not exist, or has no results.json.
        ValueError: results.json is damaged or lacks the data set, a file is of another evaluation,
            or leads out of the folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"Expected the output folder of a run at {folder}, but there is none."
        )
    if not (folder / "results.json").is_file():
        remedy = (
            "Name the OUTPUT_DIR of a run, or evaluate it with balms-seg train --eval-only or "
            "balms-seg evaluate --output."
        )
        raise FileNotFoundError(
            f"{folder} is no finished run: it has no results.json. "
            f"{unfinished_run(folder) or remedy}"
        )
    for path in folder.iterdir():
        contained(path, folder, outside=outside or path.name not in _FILES)
    record = read_results(folder / "results.json")
    known = list(record["metrics"])
    if not known:
        raise ValueError(f"{folder / 'results.json'} has no metrics; evaluate the run first.")
    dataset = dataset or known[0]
    if dataset not in known:
        raise ValueError(
            f"Expected results on '{dataset}' in {folder}, but it was evaluated on "
            f"{', '.join(known)}; name one of them with --dataset."
        )
    metrics = record["metrics"][dataset]
    evaluation = contained(_evaluation_folder(folder, dataset), folder, outside=outside)
    files = [contained(path, folder, outside=outside) for path in evaluation_files(evaluation)]
    require_one_evaluation(files, record)
    missing: list[str] = []
    tasks = {task: read_task(evaluation, task, missing) for task in TASK_NAMES if task in metrics}
    if IMAGE_TASK in metrics:
        tasks = {IMAGE_TASK: read_image_task(evaluation, missing)}
    if not tasks:
        raise ValueError(
            f"Expected metrics of {', '.join(TASK_NAMES)} or {IMAGE_TASK} on '{dataset}' in "
            f"{folder}, but got {sorted(metrics)}; evaluate with this package's evaluators."
        )
    for task in tasks:
        _require_numbers(metrics[task], folder / "results.json")
    return Run(
        name=name or run_name(folder),
        folder=folder,
        dataset=dataset,
        metrics=metrics,
        group_sizes=(record.get("group_sizes") or {}).get(dataset) or {},
        tasks=tasks,
        curves=_read_curves(folder / "metrics.json", missing),
        learned_rates=read_csv(folder / "meta_rates.csv"),
        detections=None
        if IMAGE_TASK in metrics
        else _find_detections(folder, evaluation, record, missing, outside=outside),
        thresholds=read_csv(folder / THRESHOLDS_FILE),
        config=_config_text(folder, record),
        record=record,
        missing=missing,
    )


def _require_numbers(metrics: dict[str, float], path: Path) -> None:
    for name, value in metrics.items():
        if not isinstance(value, int | float):
            raise ValueError(
                f"Expected numbers as metrics in {path}, but {name[:60]!r} is a "
                f"{type(value).__name__}; evaluate again with --eval-only."
            )


def names_of(folders: list[Path]) -> list[str]:
    """Short names that differ: the last parts of the paths, as many as it takes."""
    longest = max(len(folder.resolve().parts) for folder in folders)
    for length in range(1, longest + 1):
        names = [run_name(folder, length) for folder in folders]
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"Expected different folders, but got {', '.join(map(str, folders))}.")


def registered_files(run: Run) -> tuple[Path, Path] | None:
    """Annotations and image folder that the configuration registers for the run's data set."""
    for name, json_file, images in _settings(run, "DATASETS").get("REGISTER", []):
        if name == run.dataset:
            return Path(json_file), Path(images)
    return None


def noted_annotations(run: Run) -> Path | None:
    """The annotations that balms-seg evaluate notes in results.json."""
    noted = run.record.get("annotations")
    return Path(noted) if isinstance(noted, str) else None


def groups_of(run: Run, category_ids: Sequence[Any]) -> dict[Any, str]:
    """Frequency letter per category id, as the evaluation had it; empty where it is not known."""
    rows = run.tasks[run.main_task].classes or []
    if len(category_ids) != len(rows):
        return {}
    return {i: row["group"][0] for i, row in zip(category_ids, rows, strict=True) if row["group"]}


def pixel_range_of(run: Run) -> tuple[float, ...]:
    """INPUT.PIXEL_RANGE of the run; empty where its configuration is not known."""
    return tuple(_settings(run, "INPUT").get("PIXEL_RANGE", ()))


def group_bounds_of(run: Run) -> tuple[int, ...]:
    """TEST.LONG_TAILED.GROUP_BOUNDS of the run; empty where none are known."""
    return tuple(_settings(run, "TEST").get("LONG_TAILED", {}).get("GROUP_BOUNDS", ()))


def match_file_names_of(run: Run) -> str:
    """DATASETS.MATCH_FILE_NAMES of the run."""
    return _settings(run, "DATASETS").get("MATCH_FILE_NAMES", "exact")


def lowest_threshold(run: Run) -> float | None:
    """The lowest score to cut at that balms-seg thresholds chose for a class; None: it has not.

    Raises:
        ValueError: thresholds.csv holds something else.
    """
    try:
        return min((float(row["threshold"]) for row in run.thresholds), default=None)
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"Expected a number as threshold of each class in {run.folder / THRESHOLDS_FILE}, but "
            "got something else; choose them again with balms-seg thresholds."
        ) from None


def _settings(run: Run, part: str) -> Mapping[str, Any]:
    """A part of the run's configuration; empty where there is none."""
    config = yaml.safe_load(run.config) if run.config else None
    return config.get(part, {}) if isinstance(config, Mapping) else {}


def _evaluation_folder(folder: Path, dataset: str) -> Path:
    """Where the files of the evaluation are: in `inference`, or for several sets below it."""
    for candidate in (folder / "inference" / dataset, folder / "inference"):
        if candidate.is_dir() and any(candidate.glob("*.json")):
            return candidate
    return folder


def _read_curves(path: Path, missing: list[str]) -> list[dict[str, Any]]:
    """Lines of metrics.json; of a repeated iteration, as after resuming, the last one stays."""
    if not path.is_file():
        missing.append("No learning curves: metrics.json is missing.")
        return []
    lines: dict[int, dict[str, Any]] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
            iteration = line["iteration"]
        except (ValueError, KeyError, TypeError):
            continue  # a line that an interruption cut short
        lines[iteration] = {**lines.get(iteration, {}), **line}
    return [lines[iteration] for iteration in sorted(lines)]


def _find_detections(
    folder: Path, evaluation: Path, record: Mapping[str, Any], missing: list[str], *, outside: bool
) -> Path | None:
    path = evaluation / DETECTIONS_FILE
    lacking = "No pictures and no fate of each object:"
    if not path.is_file() and record.get("detections"):
        path = Path(record["detections"])  # balms-seg evaluate notes what it was given
        if not outside and not is_within(path, folder):
            missing.append(f"{lacking} {path} is not in the folder; --read-outside reads it.")
            return None
    if path.is_file():
        return path
    missing.append(f"{lacking} there is no {DETECTIONS_FILE}.")
    return None


def _config_text(folder: Path, record: Mapping[str, Any]) -> str:
    config = record.get("config")
    if isinstance(config, str):
        return config
    if config:
        return yaml.safe_dump(config)
    path = folder / "config.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() else ""
