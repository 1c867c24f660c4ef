"""The configuration of a trained model, from whatever a user names it by."""

from __future__ import annotations

from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg

from balms_seg.config import add_balms_config, check_known_keys
from balms_seg.engine.checkpoints.find import saved_runs
from balms_seg.engine.checkpoints.read_file import read_checkpoint
from balms_seg.engine.required_weights import refuse_start_weights
from balms_seg.engine.run_setup import load_config

_CONFIG_SUFFIXES = (".yaml", ".yml")


def read_run_config(path: str | Path, *, device: str | None = None) -> CfgNode:
    """The configuration of a trained model, its MODEL.WEIGHTS those to load.

    Args:
        path: a checkpoint of this package, whose own configuration is taken; the output folder of
            a run: its last checkpoint; or a configuration that names MODEL.WEIGHTS, such as
            `balms-seg calibrate` writes.
        device: "cpu" or "cuda"; None for the run's own, where there is one.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: it has no configuration, or the configuration names none, or is a run's own,
            which names those it started from.
    """
    path = Path(path)
    if path.suffix.lower() in _CONFIG_SUFFIXES:
        cfg = load_config(path)
        refuse_start_weights(cfg, path)
        if not cfg.MODEL.WEIGHTS:
            raise ValueError(
                f"{path} does not say which MODEL.WEIGHTS to load, as the configurations that "
                "balms-seg calibrate writes do; name the folder of the run or a checkpoint."
            )
    else:
        cfg = _config_of_checkpoint(_last_checkpoint(path) if path.is_dir() else path)
    if device or not torch.cuda.is_available():
        cfg.MODEL.DEVICE = device or "cpu"
    return cfg


def _last_checkpoint(folder: Path) -> Path:
    saved = next(saved_runs(folder), None)
    if saved is None:
        raise FileNotFoundError(f"Expected checkpoints of a run in {folder}, but there are none.")
    return saved.path


def _config_of_checkpoint(path: Path) -> CfgNode:
    content = read_checkpoint(path)
    if "config" not in content:
        raise ValueError(
            f"{path} does not hold the configuration it was trained with, as checkpoints of this "
            "package do; evaluate it with its configuration file."
        )
    cfg = get_cfg()
    add_balms_config(cfg)
    saved_config = CfgNode.load_cfg(content["config"])
    check_known_keys(saved_config, str(path))
    cfg.merge_from_other_cfg(saved_config)
    cfg.MODEL.WEIGHTS = str(path)
    return cfg
