"""Whether a run can go on from a checkpoint, asked before any data are loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from balms_seg.engine.batch_size import follow_batch_size
from balms_seg.engine.checkpoints.checkpointer import RAW_KEY
from balms_seg.engine.checkpoints.find import saved_runs
from balms_seg.engine.optimizer import build_optimizer
from balms_seg.engine.trainer import LongTailedTrainer
from balms_seg.wording import counted

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# What makes another run of it, where both configurations have the key.
_METHOD_KEYS = (
    "MODEL.META_ARCHITECTURE",
    "MODEL.ROI_HEADS.NAME",
    "MODEL.ROI_BOX_HEAD.CLASSIFIER",
    "MODEL.IMAGE_CLASSIFIER.METHOD",
    "DATALOADER.SAMPLER_TRAIN",
    "SOLVER.OPTIMIZER",
    "MODEL.TRAIN_ONLY",
    "MODEL.INIT_CLASSIFIER",
    "MODEL.INITIAL_BIAS",
)
_OF_PARAMETERS = ("MODEL.", "SOLVER.BIAS_LR_FACTOR", "SOLVER.WEIGHT_DECAY")
_LEFT_TO_THE_DATA = ("NUM_CLASSES", "NUM_FEATURES")  # where they are 0
# What makes no other training; the checkpoint's weights and seed hold, and are told of elsewhere.
_NOT_TOLD = {"MODEL.DEVICE", "MODEL.WEIGHTS", "OUTPUT_DIR", "SEED", "VERSION"}
_MOST_LETTERS = 60  # of a value in a message


def prepare_to_resume(cfg: CfgNode) -> dict[str, Any]:
    """Stop where --resume would go on from a run of another method, optimiser or model.

    A schedule follows a batch size that was changed by hand, in place.

    Returns:
        The configuration of the run that it goes on from; empty where there is none.

    Raises:
        ValueError: says what has changed, and how to start anew from the weights.
    """
    run = next(saved_runs(cfg.OUTPUT_DIR), None)
    if run is None:
        return {}
    saved = yaml.safe_load(run.entries.get("config", "{}"))
    changed_model = _changed_shapes(cfg, saved, run.entries)
    keys = dict.fromkeys((*_METHOD_KEYS, *(_model_keys(cfg) if changed_model else ())))
    problems = [*_changed_keys(cfg, saved, keys), *changed_model]
    if problems:
        raise ValueError(
            f"--resume would go on from {run.path}, which is of another run:\n  "
            + "\n  ".join(problems)
            + "\nSet these back; or start a new run from its weights, with MODEL.WEIGHTS "
            f"{run.path} and another OUTPUT_DIR."
        )
    follow_batch_size(cfg, saved)
    return saved


def describe_changes(cfg: CfgNode, saved: Mapping[str, Any]) -> str:
    """What the rest of a run is trained, or evaluated, with, other than what was done before.

    Args:
        cfg: of the run; what it leaves to the data is filled in.
        saved: what `prepare_to_resume` returned.

    Returns:
        A line; empty where nothing has changed.
    """
    before, now = dict(_flat(saved)), dict(_flat(cfg))
    untold = _NOT_TOLD if "Step" in cfg.SOLVER.LR_SCHEDULER_NAME else {*_NOT_TOLD, "SOLVER.STEPS"}
    changes = [
        f"{key} {_shown(before[key])} -> {_shown(now[key])}"
        for key in now
        if key in before and key not in untold and before[key] != now[key]
    ]
    return f"With --resume, from here on: {', '.join(changes)}." if changes else ""


def saved_seed(output_dir: str | os.PathLike[str]) -> int | None:
    """Seed of the run that --resume goes on with, from its checkpoint or else its config.yaml.

    None where neither says: a kill may have cut config.yaml short, which every start writes.
    """
    run = next(saved_runs(output_dir), None)
    if run is not None and "seed" in run.entries["trainer"]:
        return run.entries["trainer"]["seed"]
    try:
        content = yaml.safe_load((Path(output_dir) / "config.yaml").read_text(encoding="utf-8"))
        return content["SEED"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return None


def _model_keys(cfg: CfgNode) -> Iterator[str]:
    """What decides on parameters, and on how they are trained."""
    left_to_the_data = {f"MODEL.IMAGE_CLASSIFIER.{key}" for key in _LEFT_TO_THE_DATA}
    for key, _ in _flat(cfg):
        if key.startswith(_OF_PARAMETERS) and key not in _NOT_TOLD | left_to_the_data:
            yield key


def _changed_keys(cfg: CfgNode, saved: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    pairs = {key: (_value(saved, key), _plain(_value(cfg, key))) for key in keys}
    return [
        f"{key} was {_shown(repr(old))} and is {_shown(repr(new))}."
        for key, (old, new) in pairs.items()
        if old is not None and new is not None and old != new
    ]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys with dots and their values, as yaml reads them back."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _plain(value)


def _plain(value: Any) -> Any:
    """As yaml reads it back."""
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."


def _value(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _changed_shapes(
    cfg: CfgNode, saved: Mapping[str, Any], entries: Mapping[str, Any]
) -> list[str]:
    """Differences of the weights, and of the parameters that train."""
    cfg = cfg.clone()
    cfg.defrost()
    for key in _LEFT_TO_THE_DATA:  # which are not read yet, and were read for the run
        if not cfg.MODEL.IMAGE_CLASSIFIER[key]:
            cfg.MODEL.IMAGE_CLASSIFIER[key] = _value(saved, f"MODEL.IMAGE_CLASSIFIER.{key}") or 0
    cfg.MODEL.DEVICE, cfg.DATASETS.TRAIN = "meta", ()
    with torch.device("meta"):
        model = LongTailedTrainer.build_model(cfg)
    ours = {name: tuple(value.shape) for name, value in model.named_parameters()}
    theirs = {name: tuple(v.shape) for name, v in entries.get(RAW_KEY, entries["model"]).items()}
    changed = [name for name, shape in ours.items() if theirs.get(name) != shape]
    if changed:
        name = changed[0]
        return [
            f"{len(changed)} of the model's {len(ours)} parameters had another shape, for example "
            f"{name}: {theirs.get(name, 'absent')}, now {ours[name]}."
        ]
    return _changed_training(build_optimizer(cfg, model), entries)


def _changed_training(optimizer: torch.optim.Optimizer, entries: Mapping[str, Any]) -> list[str]:
    trainer = entries["trainer"].get("_trainer", {})
    saved, ours = trainer.get("optimizer"), optimizer.state_dict()
    if saved is None:
        return []
    numbers = [[len(group["params"]) for group in state["param_groups"]] for state in (saved, ours)]
    if numbers[0] != numbers[1]:
        return [
            f"{counted(sum(numbers[0]), 'parameter')} trained in "
            f"{counted(len(numbers[0]), 'group')}, now {sum(numbers[1])} in {len(numbers[1])}."
        ]
    of_adam = ["betas" in state["param_groups"][0] for state in (saved, ours)]
    if of_adam[0] != of_adam[1]:
        return [f"The optimiser was {'of the Adam family' if of_adam[0] else 'SGD'}."]
    return []
