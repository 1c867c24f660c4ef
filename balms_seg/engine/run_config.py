"""The configuration of a trained model, from whatever a user names it by."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode, get_cfg

from balms_seg.config import add_balms_config, check_known_keys
from balms_seg.engine.checkpoints.find import saved_runs
from balms_seg.engine.checkpoints.read_file import read_checkpoint
from balms_seg.engine.config_files import load_config, merge_overrides
from balms_seg.engine.device import choose_device
from balms_seg.engine.required_weights import refuse_start_weights
from balms_seg.evaluation.uncertainty.run_seeds import CONFIG_FILE, is_evaluation
from balms_seg.modeling.roi_heads import method_name

logger = logging.getLogger(__name__)

_CONFIG_SUFFIXES = (".yaml", ".yml")


def read_run_config(
    path: str | Path, overrides: Sequence[str] = (), *, device: str | None = None
) -> CfgNode:
    """The configuration of a trained model, its MODEL.WEIGHTS those to load.

    Args:
        path: a checkpoint, whose own configuration is taken, or where it has none, as those of
            other trainers, the config.yaml beside it; the output folder of a run: its last
            checkpoint; that of an evaluation alone: what it evaluated, as it did; or a
            configuration that names MODEL.WEIGHTS, such as `balms-seg calibrate` writes.
        overrides: KEY VALUE pairs.
        device: "cpu" or "cuda"; None for that of the overrides, or the run's own, where there is
            one.

    Raises:
        FileNotFoundError: there is no checkpoint.
        KeyError: there is no such key.
        RuntimeError: the overrides name a GPU on a machine without one.
        ValueError: there is no configuration, or the configuration names no checkpoint, or is a
            run's own, which names those it started from; or the overrides contradict it.
    """
    path = Path(path)
    if path.is_dir():
        cfg = _config_of_folder(path, overrides)
    elif path.suffix.lower() in _CONFIG_SUFFIXES:
        cfg = _config_of_file(path, overrides)
    else:
        cfg = _config_of_checkpoint(path, overrides)
    cfg.MODEL.DEVICE = device or cfg.MODEL.DEVICE
    choose_device(cfg, num_gpus=1, falls_back="MODEL.DEVICE" not in overrides[::2])
    return cfg


def _config_of_file(path: Path, overrides: Sequence[str]) -> CfgNode:
    cfg = load_config(path, overrides)
    refuse_start_weights(cfg, path, overrides)
    if not cfg.MODEL.WEIGHTS:
        raise ValueError(
            f"{path} does not say which MODEL.WEIGHTS to load, as the configurations that "
            "balms-seg calibrate writes do; name the folder of the run or a checkpoint."
        )
    return cfg


def _config_of_folder(folder: Path, overrides: Sequence[str]) -> CfgNode:
    saved = next(saved_runs(folder), None)
    if saved is not None:
        return _config_of_checkpoint(saved.path, overrides)
    if is_evaluation(folder):
        return _config_of_file(folder / CONFIG_FILE, overrides)
    raise FileNotFoundError(
        f"Expected checkpoints of a run in {folder}, or the {CONFIG_FILE} and results.json of an "
        "evaluation, but there are none."
    )


def _config_of_checkpoint(path: Path, overrides: Sequence[str]) -> CfgNode:
    content = read_checkpoint(path)
    if "config" not in content:
        return _config_beside(path, overrides)
    cfg = get_cfg()
    add_balms_config(cfg)
    saved_config = CfgNode.load_cfg(content["config"])
    check_known_keys(saved_config, str(path))
    cfg.merge_from_other_cfg(saved_config)
    cfg.MODEL.WEIGHTS = str(path)
    if overrides:
        merge_overrides(cfg, overrides)
    return cfg


def _config_beside(path: Path, overrides: Sequence[str]) -> CfgNode:
    """For checkpoints of other trainers, which hold none."""
    beside = path.parent / CONFIG_FILE
    if not beside.is_file():
        raise ValueError(
            f"{path} does not hold the configuration it was trained with, as checkpoints of this "
            f"package do, and there is no {beside}. Name the folder of an evaluation of it, "
            "balms-seg train --eval-only --config-file F MODEL.WEIGHTS PTH OUTPUT_DIR DIR; or "
            f"balms-seg demo --config-file F --opts MODEL.WEIGHTS {path}"
        )
    cfg = load_config(beside, overrides)
    if "MODEL.WEIGHTS" not in overrides[::2]:
        cfg.MODEL.WEIGHTS = str(path)
    logger.warning(
        "%s does not hold its configuration, so %s is taken for it: %s with the classifier %s.",
        path,
        beside,
        cfg.MODEL.ROI_HEADS.NAME,
        method_name(cfg) or "of detectron2",
    )
    return cfg
