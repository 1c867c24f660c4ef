"""The weights that a run starts from, or evaluates, are there."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from balms_seg.engine.checkpoints.find import has_checkpoints, named_checkpoint
from balms_seg.engine.config_files import find_config_file, load_config
from balms_seg.engine.jobs.choice import build_job
from balms_seg.engine.tuning.calibrated_config import is_calibrated_config
from balms_seg.evaluation.uncertainty.run_seeds import CONFIG_FILE, is_evaluation
from balms_seg.modeling.unfilled_norms import REMEDY

if TYPE_CHECKING:
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)

_PATH_OR_ADDRESS = "give the path of a checkpoint or an address"


def require_weights(
    cfg: CfgNode,
    *,
    resume: bool,
    eval_only: bool,
    num_gpus: int,
    is_planned: bool = False,
) -> None:
    """Stop where a run has no weights to start from, or to evaluate.

    A run that is only planned warns of a stage that has not been trained and goes on without.

    Args:
        cfg: the configuration, whose SEED is below 0 where none was given.
        resume: the last checkpoint of OUTPUT_DIR will do, where there is one.
        eval_only: nothing is trained.
        num_gpus: of the command line.
        is_planned: nothing is run; MODEL.WEIGHTS is emptied where the stage before left none.

    Raises:
        FileNotFoundError: MODEL.WEIGHTS leads nowhere.
        ValueError: an evaluation has none.
    """
    if resume and has_checkpoints(cfg.OUTPUT_DIR):
        return
    uses_stage_one = not eval_only or _trains_nothing(cfg)
    if not eval_only and cfg.MODEL.TRAIN_ONLY and not cfg.MODEL.WEIGHTS:
        logger.warning(
            "MODEL.WEIGHTS is empty and MODEL.TRAIN_ONLY trains %s alone: the rest stays as it is "
            "drawn at random. Name the checkpoint of the stage before.",
            ", ".join(cfg.MODEL.TRAIN_ONLY),
        )
    if not eval_only and not cfg.MODEL.WEIGHTS and _has_frozen_norm(cfg):
        logger.warning(
            "MODEL.WEIGHTS is empty and MODEL.RESNETS.NORM is FrozenBN, which without pretrained "
            "weights %s.",
            REMEDY,
        )
    if cfg.MODEL.WEIGHTS:
        stage_one = cfg.MODEL.STAGE_ONE_CONFIG if uses_stage_one else ""
        remedy = f"{_PATH_OR_ADDRESS}, or '' to start from scratch."
        if stage_one:
            remedy = (
                "it is what the stage before this one writes, so train that first: "
                f"{_stage_one_command(cfg, num_gpus)}; "
                "or give the path of its checkpoint."
            )
        try:
            _require_local_file(cfg, remedy)
        except FileNotFoundError as error:
            if not (is_planned and stage_one):
                raise
            logger.warning("%s The plan goes on from scratch.", error)
            cfg.MODEL.WEIGHTS = ""
    elif eval_only:
        remedy = _what_to_give(Path(cfg.OUTPUT_DIR), can_resume=True)
        raise ValueError(f"--eval-only needs weights: give {remedy}.")


def refuse_start_weights(
    cfg: CfgNode,
    config_file: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    can_resume: bool = False,
) -> None:
    """Stop, before anything is downloaded, where what would be used is what a training starts from.

    So it is where the command line names no MODEL.WEIGHTS, and those of the file are an address,
    those of the stage before, or others than those in an OUTPUT_DIR that has some by now. Not where
    the file is of what has been trained: of an evaluation, or a calibration.

    Args:
        cfg: what was read of the file.
        config_file: its path.
        overrides: KEY, VALUE, ... of the command line.
        can_resume: the command takes --resume for the last checkpoint of OUTPUT_DIR.

    Raises:
        ValueError: names the checkpoint that was trained, where there is one.
    """
    refuse_own_start(cfg, config_file, overrides)
    weights, folder = cfg.MODEL.WEIGHTS, Path(cfg.OUTPUT_DIR)
    if not weights or "MODEL.WEIGHTS" in overrides[::2] or _trains_nothing(cfg):
        return
    is_trained = has_checkpoints(folder)
    is_start = "://" in weights or cfg.MODEL.STAGE_ONE_CONFIG or is_trained
    is_own = Path(weights).absolute().parent == folder.absolute()
    if is_own or not is_start or _is_of_what_was_trained(find_config_file(str(config_file))):
        return
    whose = "the stage before wrote and " if cfg.MODEL.STAGE_ONE_CONFIG else ""
    raise ValueError(
        f"MODEL.WEIGHTS of {config_file} is {weights}, which {whose}a training of it starts from, "
        f"not what it trains; give those that you mean: {_what_to_give(folder, can_resume)}."
    )


def refuse_own_start(
    cfg: CfgNode, config_file: str | os.PathLike[str], overrides: Sequence[str] = ()
) -> None:
    """Stop where a run's own config.yaml would load what the run started from.

    The file keeps the MODEL.WEIGHTS of the start; what was trained lies in checkpoints beside it.

    Args:
        cfg: what was read of the file.
        config_file: its path.
        overrides: KEY, VALUE, ... of the command line, which may name MODEL.WEIGHTS.

    Raises:
        ValueError: neither the command line nor the file names a checkpoint of the run.
    """
    folder = Path(config_file).absolute().parent
    is_named = "MODEL.WEIGHTS" in overrides[::2]
    if is_named or Path(config_file).name != CONFIG_FILE or not has_checkpoints(folder):
        return
    if cfg.MODEL.WEIGHTS and Path(cfg.MODEL.WEIGHTS).absolute().parent == folder:
        return
    raise ValueError(
        f"{config_file} has the MODEL.WEIGHTS that its run started from "
        f"({cfg.MODEL.WEIGHTS or 'none'}), not what it trained; give those that you mean: "
        f"MODEL.WEIGHTS {_trained_in(folder)}."
    )


def require_trained_weights(
    cfg: CfgNode,
    config_file: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    option: str = "",
) -> None:
    """Stop before anything is read where no trained weights are named, or there are none.

    Args:
        cfg: what was read of the file.
        config_file: its path.
        overrides: KEY, VALUE, ... of the command line.
        option: of the command that they follow.

    Raises:
        FileNotFoundError: MODEL.WEIGHTS leads nowhere.
        ValueError: it is empty, or what a run started from.
    """
    refuse_start_weights(cfg, config_file, overrides)
    if not cfg.MODEL.WEIGHTS:
        words = f"{option} MODEL.WEIGHTS PATH".strip()
        raise ValueError(f"Expected {words} at the end, but got no weights.")
    _require_local_file(cfg, f"{_PATH_OR_ADDRESS}.")


def _stage_one_command(cfg: CfgNode, num_gpus: int) -> str:
    """What trains the stage before with this one's seed, into the folder of MODEL.WEIGHTS."""
    words = ["balms-seg", "train", "--config-file", cfg.MODEL.STAGE_ONE_CONFIG]
    words += ["--num-gpus", str(num_gpus)]
    if cfg.SEED >= 0:
        words += ["SEED", str(cfg.SEED)]
    folder, name = os.path.split(os.path.normpath(cfg.MODEL.WEIGHTS))
    try:
        own = os.path.normpath(load_config(cfg.MODEL.STAGE_ONE_CONFIG).OUTPUT_DIR)
    except FileNotFoundError:
        own = ""  # a file of somebody's own, which messages alone name
    if name == "model_final.pth" and folder != own:
        words += ["OUTPUT_DIR", folder or "."]
    return shlex.join(words)


def _what_to_give(folder: Path, can_resume: bool) -> str:
    """MODEL.WEIGHTS with what OUTPUT_DIR holds, or the flag that takes it."""
    if not has_checkpoints(folder):
        return f"MODEL.WEIGHTS PATH; OUTPUT_DIR ({folder}) has no checkpoint"
    by_flag = f", or --resume for the last checkpoint of OUTPUT_DIR ({folder})"
    return f"MODEL.WEIGHTS {_trained_in(folder)}{by_flag if can_resume else ''}"


def _trained_in(folder: Path) -> Path:
    """A checkpoint of a folder that has some."""
    return named_checkpoint(folder) or next(iter(sorted(folder.glob("*.pth"))), folder)


def _is_of_what_was_trained(config_file: str) -> bool:
    """Whether a file is not of a training, but of an evaluation or a calibration."""
    path = Path(config_file)
    is_of_evaluation = path.name == CONFIG_FILE and is_evaluation(path.absolute().parent)
    return is_of_evaluation or is_calibrated_config(path)


def _has_frozen_norm(cfg: CfgNode) -> bool:
    """Whether a detector's backbone is a residual network with FrozenBN."""
    is_resnet = "resnet" in cfg.MODEL.BACKBONE.NAME and not build_job(cfg).of_images
    return is_resnet and cfg.MODEL.RESNETS.NORM == "FrozenBN"


def _trains_nothing(cfg: CfgNode) -> bool:
    """Whether the stage is an evaluation of what the stage before it wrote."""
    of_images = build_job(cfg).of_images
    method = cfg.MODEL.IMAGE_CLASSIFIER.METHOD if of_images else cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER
    return cfg.MODEL.INIT_CLASSIFIER == "tau_norm" or method.startswith("post_hoc_")


def _require_local_file(cfg: CfgNode, remedy: str) -> None:
    """Stop where `MODEL.WEIGHTS` is a path, not an address, and leads nowhere."""
    path = cfg.MODEL.WEIGHTS.partition("?")[0]  # detectron2 takes options after a question mark
    if "://" not in path and not os.path.isfile(path):
        raise FileNotFoundError(f"MODEL.WEIGHTS is {path}, but there is no such file; {remedy}")
