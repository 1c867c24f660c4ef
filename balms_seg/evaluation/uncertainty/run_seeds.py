"""What runs' folders say of their training: weights, seed, iterations, images an iteration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from balms_seg.evaluation.output.results_file import (
    CHECKPOINT_ENTRY,
    CONFIGURED_SEED,
    read_results,
)
from balms_seg.evaluation.predictions.run_folder import is_within

RESULTS_FILE, CONFIG_FILE = "results.json", "config.yaml"


def describe_seeds(first: Path, second: Path, names: tuple[str, str]) -> str:
    """Say whether chance in training is among the differences of two runs, if they are two.

    Args:
        first: output folder of a run, or a file in it.
        second: of another.
        names: what to call them.

    Returns:
        A sentence; empty where both were surely trained with one seed.
    """
    if first.resolve() == second.resolve():
        return f"{names[0]} and {names[1]} are the same run, {first}: compare it with another."
    trainings = [read_training(path) for path in (first, second)]
    weights = [training.weights for training in trainings]
    if weights[0] is not None and weights[0] == weights[1]:
        return (
            f"{names[0]} and {names[1]} evaluate the same weights: chance in training has no part "
            "in these differences."
        )
    seeds = [training.seed for training in trainings]
    if seeds == [None, None]:
        return (
            f"{names[0]} and {names[1]}: their training seeds are not known; seeds alone move AP, "
            "too, and that is not in these intervals."
        )
    by_word = [
        name for name, training in zip(names, trainings, strict=True) if training.is_by_config
    ]
    if seeds[0] == seeds[1] and not by_word:
        return ""
    if seeds[0] == seeds[1]:
        return (
            f"Both of SEED {seeds[0]}, {' and '.join(by_word)} by the {CONFIG_FILE} beside the "
            "weights: paired if that training seeded with it (seed_all_rng)."
        )
    shown = " and ".join(
        f"{name} {'of unknown seed' if seed is None else f'of seed {seed}'}"
        for name, seed in zip(names, seeds, strict=True)
    )
    is_paired = "Perhaps not paired" if None in seeds else "Not paired"
    return (
        f"{is_paired} in training: {shown}. Chance in training adds to these intervals; train both "
        "with one SEED, better with several."
    )


def _record(path: Path) -> Mapping[str, Any]:
    """The results.json in a run's folder; empty where there is none."""
    folder = path if path.is_dir() else path.parent
    file = folder / RESULTS_FILE
    return read_results(file) if file.is_file() and is_within(file, folder) else {}


@dataclass(frozen=True)
class Training:
    """What is known of a training; None where it is not.

    Attributes:
        seed: of the draws.
        is_by_config: whether a configuration names the seed, and no checkpoint.
        weights: what tells its weights from others.
        iteration: of the weights.
        is_planned: whether a configuration names the iterations, which may have been fewer.
        batch_size: images an iteration.
        has_first_stage: whether it went on from the weights of another training.
    """

    seed: int | None = None
    is_by_config: bool = False
    weights: str | None = None
    iteration: int | None = None
    is_planned: bool = False
    batch_size: int | None = None
    has_first_stage: bool = False

    @property
    def images(self) -> int | None:
        """Drawn from the training set, in all."""
        if self.iteration is None or self.batch_size is None:
            return None
        return self.iteration * self.batch_size


def read_training(path: Path) -> Training:
    """What a run tells of its training; an evaluation alone tells it of its checkpoint.

    Args:
        path: output folder of a run, or a file in it.
    """
    record, folder = _record(path), path if path.is_dir() else path.parent
    if not record:  # of another trainer
        is_own = is_within(folder / CONFIG_FILE, folder)
        return configured_training(folder) if is_own else Training()
    config = _config(record)
    if record.get("iteration") is not None:
        own, batch_size = record, config.get("SOLVER", {}).get("IMS_PER_BATCH")
    else:
        own = record.get(CHECKPOINT_ENTRY) or {}
        batch_size = own.get("batch_size")
    seed, configured = own.get("seed"), own.get(CONFIGURED_SEED)
    is_by_config = seed is None and configured is not None
    return Training(
        seed=configured if is_by_config else seed,
        is_by_config=is_by_config,
        weights=record.get("weights"),
        iteration=own.get("iteration"),
        batch_size=batch_size,
        has_first_stage=bool(config.get("MODEL", {}).get("STAGE_ONE_CONFIG")),
    )


def configured_training(folder: Path) -> Training:
    """What the configuration in a folder says of the training there, perhaps by another trainer.

    Args:
        folder: need not hold one.
    """
    try:
        config = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return Training()
    seed = _number(config, "SEED")
    solver = config.get("SOLVER") if isinstance(config, dict) else None
    iteration, batch_size = (_number(solver, key) for key in ("MAX_ITER", "IMS_PER_BATCH"))
    return Training(
        seed=seed,
        is_by_config=seed is not None,
        iteration=iteration,
        is_planned=iteration is not None,
        batch_size=batch_size,
    )


def _number(settings: Any, key: str) -> int | None:
    """A setting that is a whole number, not below 0; None where it is none."""
    value = settings.get(key) if isinstance(settings, dict) else None
    return value if type(value) is int and value >= 0 else None


def trained_on(path: Path) -> list[str]:
    """The sets that a run was evaluated on and trained on; empty where it does not say.

    Args:
        path: output folder of a run, or a file in it.
    """
    record = _record(path)
    trained = _config(record).get("DATASETS", {}).get("TRAIN", ())
    return [name for name in record.get("metrics", {}) if name in trained]


def evaluated_model(path: Path) -> str | None:
    """What `balms-seg predict` takes for the model of an evaluated run; None where it is not known.

    Args:
        path: output folder of a run, or a file in it.
    """
    folder = path if path.is_dir() else path.parent
    if any(folder.glob("model_*.pth")):
        return str(folder)
    weights = str(_config(_record(path)).get("MODEL", {}).get("WEIGHTS", ""))
    if not (weights.endswith(".pth") and weights.isprintable() and Path(weights).is_file()):
        return None
    return str(folder) if is_evaluation(folder) else weights


def is_evaluation(folder: Path) -> bool:
    """Whether a folder is of an evaluation alone, whose configuration names what it evaluated.

    Args:
        folder: of a run.
    """
    record = _record(folder)
    is_alone = bool(record) and record.get("iteration") is None
    return is_alone and (folder / CONFIG_FILE).is_file()


def _config(record: Mapping[str, Any]) -> Mapping[str, Any]:
    config = record.get("config")
    return yaml.safe_load(config) if isinstance(config, str) else {}
