"""From the command line to a checked configuration."""

from __future__ import annotations

import logging
from argparse import Namespace
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm

from balms_seg.config.meta_learning import check_meta_training
from balms_seg.data import register_from_config
from balms_seg.data.instances.registration import make_paths_absolute
from balms_seg.data.preflight.data_checks import output_problems
from balms_seg.distributed import on_main_process
from balms_seg.engine.checkpoints.find import has_checkpoints
from balms_seg.engine.config_files import find_config_file, load_config
from balms_seg.engine.jobs.choice import build_job
from balms_seg.engine.output_folder import (
    prepare_output_folder,
    set_evaluation_aside,
    training_config_kept,
)
from balms_seg.engine.required_weights import refuse_start_weights, require_weights
from balms_seg.engine.resume_checks import describe_changes, prepare_to_resume, saved_seed
from balms_seg.engine.run_data import DataSets
from balms_seg.engine.run_log import start_log
from balms_seg.engine.settled_settings import settle_settings

logger = logging.getLogger(__name__)


def setup(args: Namespace, sets: DataSets | None = None, *, scratch: str | None = None) -> CfgNode:
    """Read, check and log the configuration; prepare output directory, seed and data sets.

    Args:
        args: of `detectron2.engine.default_argument_parser`.
        sets: gets what is read of the data sets, to be handed on to the trainer or `evaluate`.
        scratch: a folder that takes the place of OUTPUT_DIR, where the run is only planned; that
            one is only read, and may hold an earlier run.

    Returns:
        A frozen configuration with `SEED` >= 0, whose data sets are registered; the trainer (or
        `evaluate`) reads and checks them.
    """
    config_file = find_config_file(args.config_file)
    args = Namespace(**{**vars(args), "config_file": config_file})  # default_setup reads it, too
    cfg = load_config(config_file, args.opts)
    _choose_device(cfg, args.num_gpus, is_planned=scratch is not None)
    if cfg.MODEL.INIT_CLASSIFIER == "tau_norm" and not args.eval_only:
        raise ValueError(
            "MODEL.INIT_CLASSIFIER is tau_norm, which trains nothing: it normalises the classifier "
            "of MODEL.WEIGHTS; run it with --eval-only."
        )
    if args.eval_only and not (args.resume and has_checkpoints(cfg.OUTPUT_DIR)):
        refuse_start_weights(cfg, config_file, args.opts, can_resume=True)
    earlier: dict[str, Any] = {}
    if not args.eval_only:
        earlier = _prepare_training(cfg, args, is_planned=scratch is not None)
    require_weights(
        cfg,
        resume=args.resume,
        eval_only=args.eval_only,
        num_gpus=args.num_gpus,
        is_planned=scratch is not None,
    )
    seed_was_drawn = cfg.SEED < 0
    if seed_was_drawn:
        cfg.SEED = _drawn_seed(cfg.OUTPUT_DIR, resume=args.resume)
    if scratch is not None:
        cfg.OUTPUT_DIR = scratch
    make_paths_absolute(cfg)
    sets = DataSets() if sets is None else sets
    settled = settle_settings(cfg, sets, training=not args.eval_only, resume=args.resume)
    _require_writable(cfg.OUTPUT_DIR)  # makes it, so that what was refused before leaves no folder
    cfg.freeze()
    moved = _set_evaluation_aside(cfg, resume=args.resume) if args.eval_only else None
    start_log(cfg.OUTPUT_DIR, comm.get_rank())
    with training_config_kept(cfg.OUTPUT_DIR, args.eval_only and comm.is_main_process()):
        default_setup(cfg, args)
    if moved:
        logger.warning(moved)
    if seed_was_drawn and not args.eval_only and scratch is None:
        logger.info("SEED was not set: it is %d (in config.yaml and checkpoints).", cfg.SEED)
    for note in settled:
        logger.info(note)
    changes = describe_changes(cfg, earlier)
    if changes:
        logger.warning(changes)
    register_from_config(cfg)
    return cfg


def _choose_device(cfg: CfgNode, num_gpus: int, *, is_planned: bool) -> None:
    """The CPU where no GPU is asked for; stop where the device asked for is not there.

    A run that is only planned is planned on the CPU then.
    """
    does_without = num_gpus == 0 or (is_planned and not torch.cuda.is_available())
    if does_without and cfg.MODEL.DEVICE == "cuda":
        cfg.MODEL.DEVICE = "cpu"
    if num_gpus > 0 and comm.get_world_size() > 1 and cfg.MODEL.DEVICE == "cpu":
        raise ValueError(
            f"--num-gpus is {num_gpus}, but MODEL.DEVICE is cpu; set MODEL.DEVICE to cuda, or "
            "start CPU processes with torchrun --nproc-per-node N -m balms_seg train --num-gpus 0."
        )
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("MODEL.DEVICE is cuda but CUDA is not available; use --num-gpus 0.")


def _prepare_training(cfg: CfgNode, args: Namespace, *, is_planned: bool) -> dict[str, Any]:
    """Stop where the run cannot start in its folder, or go on from what is there.

    Returns:
        The configuration that it goes on from; empty at a start.
    """
    check_meta_training(cfg, of_images=build_job(cfg).of_images)
    if not is_planned:
        on_main_process(
            lambda: prepare_output_folder(
                cfg.OUTPUT_DIR,
                resume=args.resume,
                overwrite=getattr(args, "overwrite", False),
                weights=cfg.MODEL.WEIGHTS,
            )
        )
    return prepare_to_resume(cfg) if args.resume else {}


def _set_evaluation_aside(cfg: CfgNode, *, resume: bool) -> str | None:
    """As `set_evaluation_aside`, on the main process."""
    weights = "" if resume and has_checkpoints(cfg.OUTPUT_DIR) else cfg.MODEL.WEIGHTS
    return on_main_process(
        lambda: set_evaluation_aside(cfg.OUTPUT_DIR, config=cfg.dump(), weights=weights)
    )


def _drawn_seed(output_dir: str, *, resume: bool) -> int:
    """A new seed, the same on all ranks; with `resume` the one that the run has."""
    saved = saved_seed(output_dir) if resume else None
    drawn = comm.shared_random_seed() % 2**31  # waits for all ranks, before one writes config.yaml
    return drawn if saved is None else saved


def _require_writable(directory: str) -> None:
    for problem in output_problems(directory):
        raise OSError(problem)
