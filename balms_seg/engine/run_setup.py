"""From the command line to a checked configuration."""

from __future__ import annotations

import difflib
import logging
import os
import re
from argparse import Namespace
from collections.abc import Sequence
from typing import IO, Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import default_setup
from detectron2.utils import comm

from balms_seg.config import add_balms_config, check_config, check_known_keys
from balms_seg.config.meta_learning import check_meta_training
from balms_seg.config.methods import EXAMPLES
from balms_seg.data import register_from_config
from balms_seg.data.instances.registration import make_paths_absolute
from balms_seg.data.preflight.data_checks import output_problems
from balms_seg.distributed import on_main_process
from balms_seg.engine.checkpoints.find import has_checkpoints
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
from balms_seg.model_zoo import get_config_file
from balms_seg.sampling.repeat_factor import AUTO_REPEAT_THRESHOLD

logger = logging.getLogger(__name__)

# Keys that a run computes from another one, unless the command line names them and not the other;
# the value is what switches the other off.
DERIVED_FROM = {
    "SOLVER.MAX_ITER": ("SOLVER.EPOCHS", "0"),
    "SOLVER.WARMUP_ITERS": ("SOLVER.WARMUP_SHARE", "0.0"),
}

_MOST_NAMED = 5  # keys, where one is unknown


def load_config(config_file: str | os.PathLike[str], overrides: Sequence[str] = ()) -> CfgNode:
    """Read a configuration file (safely: a yaml cannot run code) and apply overrides.

    Args:
        config_file: yaml with this package's and detectron2's keys; `_BASE_` is followed. Where
            there is no such file, the name of one that comes with the package.
        overrides: KEY VALUE pairs.

    Returns:
        The configuration, checked for contradictions, not frozen.

    Raises:
        FileNotFoundError: there is no such file.
        KeyError: a key does not exist, or is one of the authors' release.
        ValueError: the yaml is malformed, holds python objects, or contradicts itself; or the file
            is a Python configuration.
    """
    config_file = find_config_file(str(config_file))
    if config_file.endswith(".py"):
        raise ValueError(
            f"Expected a yaml configuration, but {config_file} is Python, which `balms-seg train` "
            "alone takes."
        )
    cfg = get_cfg()
    add_balms_config(cfg)
    try:
        content = _LocalFiles.load_yaml_with_base(str(config_file), allow_unsafe=False)
        content.keys()  # an attribute error where it is no mapping
    except KeyError:
        raise
    except (AttributeError, TypeError) as error:  # of what is no mapping
        raise ValueError(
            f"{config_file} is not a plain yaml configuration: expected KEY: VALUE pairs, in it "
            "and in its _BASE_; is one of them empty?"
        ) from error
    except Exception as error:  # yaml raises a family of its own
        raise ValueError(f"{config_file} is not a plain yaml configuration: {error}") from error
    check_known_keys(content, str(config_file))
    cfg.merge_from_file(str(config_file), allow_unsafe=False)
    _merge_overrides(cfg, list(overrides))
    check_config(cfg)
    return cfg


class _LocalFiles(CfgNode):
    """Reads configuration files, and stops where `_BASE_` is an address to download from."""

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        if "://" in filename:
            raise ValueError(
                f"_BASE_ is an address, {filename}; only files are followed: save it beside the "
                "configuration and name that"
            )
        return open(filename, encoding="utf-8")


def find_config_file(name: str) -> str:
    """A file as it is named, or else the one of that name that comes with the package.

    Raises:
        FileNotFoundError: there is neither.
    """
    if os.path.isfile(name):
        return name
    try:
        return get_config_file(name.removeprefix("configs/"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"Expected a configuration file at {name or '--config-file'}, but there is none, nor "
            "one of that name in the package; `balms-seg train --list` names those."
        ) from None


def refuse_flags(overrides: Sequence[str]) -> None:
    """Raise ValueError where a flag stands among KEY VALUE pairs, which would not be heeded."""
    flags = [word for word in overrides if word.startswith("--")]
    if flags:
        raise ValueError(
            f"{flags[0]} stands behind the first KEY VALUE pair ({overrides[0]}), where only pairs "
            f"are read; put it before the first KEY: {flags[0]} {overrides[0]} ..."
        )


def _merge_overrides(cfg: CfgNode, overrides: list[str]) -> None:
    refuse_flags(overrides)
    if len(overrides) % 2:
        raise ValueError(
            f"Expected KEY VALUE pairs after the flags, but got {len(overrides)} words: "
            f"{' '.join(overrides)}"
        )
    for key in overrides[::2]:
        nested: dict = {}
        for part in reversed(key.split(".")):
            nested = {part: nested}
        check_known_keys(nested, "The command line")
        _require_key(cfg, key)
    named = dict(zip(overrides[::2], overrides[1::2], strict=True))
    if named.get("DATALOADER.REPEAT_THRESHOLD") == "auto":  # the key holds a number
        named["DATALOADER.REPEAT_THRESHOLD"] = str(AUTO_REPEAT_THRESHOLD)
    for number, (source, off) in DERIVED_FROM.items():
        if number in named and source not in named:
            named[source] = off
    for key, word in named.items():
        _merge_override(cfg, key, word)


def _merge_override(cfg: CfgNode, key: str, word: str) -> None:
    """Set one key; a whole number will do where it holds a fraction."""
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    if isinstance(node, float) and re.fullmatch(r"[+-]?\d+", word):
        word = f"{word}.0"
    try:
        cfg.merge_from_list([key, word])
    except ValueError as error:
        if not str(error).startswith("Type mismatch"):
            raise
        raise ValueError(
            f"{key} is {word} on the command line; expected {type(node).__name__}, such as "
            f"{EXAMPLES.get(key, repr(node))}."
        ) from None


def _require_key(cfg: CfgNode, key: str) -> None:
    """Raise KeyError for a key that does not exist; yacs asserts."""
    node: Any = cfg
    for part in key.split("."):
        known = list(node) if isinstance(node, CfgNode) else []
        if part not in known:
            near = difflib.get_close_matches(part, known, n=3)
            if not near and len(known) <= _MOST_NAMED:
                near = known
            hint = f"; there are {', '.join(near)}" if near else ""
            raise KeyError(f"There is no key {key} ({part} is unknown{hint}).")
        node = node[part]


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
    if args.eval_only and not args.resume:
        refuse_start_weights(cfg, config_file, args.opts)
    earlier: dict[str, Any] = {}
    if not args.eval_only:
        earlier = _prepare_training(cfg, args, is_planned=scratch is not None)
    seed_was_drawn = cfg.SEED < 0
    if seed_was_drawn:
        cfg.SEED = _drawn_seed(cfg.OUTPUT_DIR, resume=args.resume)
    require_weights(
        cfg,
        resume=args.resume,
        eval_only=args.eval_only,
        is_named="MODEL.WEIGHTS" in args.opts[::2],
        num_gpus=args.num_gpus,
        is_planned=scratch is not None,
    )
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
