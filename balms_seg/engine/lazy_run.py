"""Training by a Python configuration: detectron2's own loop, with our classifier prepared.

What yaml configurations have beyond that (checks of the data before the start, seeded draws, class
names in checkpoints, a dry run) is not there.
"""

from __future__ import annotations

import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import AMPTrainer, SimpleTrainer, create_ddp_model, default_setup, hooks
from detectron2.engine.defaults import default_writers
from detectron2.evaluation import inference_on_dataset
from detectron2.utils import comm
from torch import nn

from balms_seg.engine.checkpoints import LongTailedCheckpointer
from balms_seg.engine.checkpoints.find import FINAL, has_checkpoints, named_checkpoint
from balms_seg.engine.config_files import find_config_file
from balms_seg.engine.optimizer import settings_kept
from balms_seg.engine.run_log import start_log
from balms_seg.modeling import prepare_model

logger = logging.getLogger(__name__)

PARTS = ("model", "dataloader", "optimizer", "lr_multiplier", "train", "statistics")


def load_lazy_config(path: str, overrides: list[str]) -> Any:
    """Run a Python configuration, which is code, and apply `key=value` overrides.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it lacks a part.
    """
    path = find_config_file(path)
    cfg = LazyConfig.apply_overrides(LazyConfig.load(path), overrides)
    missing = [part for part in PARTS if part not in cfg]
    if missing:
        raise ValueError(
            f"Expected {', '.join(PARTS)} in {path}, but it lacks {', '.join(missing)}; "
            "configs/lazy shows each (statistics: of the training set, for the box classifier)."
        )
    return cfg


def run_lazily(args: Namespace) -> None:
    """Train or evaluate on this rank.

    Args:
        args: of `balms-seg train`; `config_file` is Python, `opts` are `key=value`.
    """
    cfg = load_lazy_config(args.config_file, args.opts)
    if args.num_gpus == 0:
        cfg.train.device = "cpu"
        if cfg.train.amp.enabled and not args.eval_only:
            raise ValueError(
                "train.amp.enabled is True, but detectron2's mixed precision needs a GPU; add "
                "train.amp.enabled=False to the command."
            )
    if args.eval_only:
        _refuse_start_weights(cfg, args)
    start_log(cfg.train.output_dir, comm.get_rank())
    default_setup(cfg, args)
    statistics = instantiate(cfg.statistics)
    model = prepare_model(instantiate(cfg.model), statistics, training=not args.eval_only)
    model.to(cfg.train.device)
    if args.eval_only:
        checkpointer = LongTailedCheckpointer(model, cfg.train.output_dir)
        if args.resume and checkpointer.has_checkpoint():
            checkpointer.resume_or_load("")
        else:
            checkpointer.load(cfg.train.init_checkpoint)
        checkpointer.require_all_parameters("Check the configuration against the checkpoint's.")
        _evaluate(cfg, model)
    else:
        _train(cfg, model, resume=args.resume)


def _refuse_start_weights(cfg: Any, args: Namespace) -> None:
    """Stop where an evaluation has no weights, or the address that a training starts from."""
    weights, folder = cfg.train.init_checkpoint, Path(cfg.train.output_dir)
    is_named = any(word.startswith("train.init_checkpoint=") for word in args.opts)
    if weights and (is_named or "://" not in weights):
        return
    if args.resume and has_checkpoints(folder):
        return
    trained = named_checkpoint(folder) or folder / f"{FINAL}.pth"
    raise ValueError(
        f"--eval-only would evaluate {weights or 'untrained weights'}, which a training of "
        f"{args.config_file} starts from; give those that you mean: "
        f"train.init_checkpoint={trained if trained.is_file() else 'PATH'}"
    )


def _evaluate(cfg: Any, model: nn.Module) -> Any:
    if "evaluator" not in cfg.dataloader:
        return None
    evaluator = instantiate(cfg.dataloader.evaluator)
    return inference_on_dataset(model, instantiate(cfg.dataloader.test), evaluator)


def _train(cfg: Any, model: nn.Module, *, resume: bool) -> None:
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    loader = instantiate(cfg.dataloader.train)
    model = create_ddp_model(model, **cfg.train.ddp)
    trainer = (AMPTrainer if cfg.train.amp.enabled else SimpleTrainer)(model, loader, optimizer)
    checkpointer = DetectionCheckpointer(model, cfg.train.output_dir, trainer=trainer)
    own_hooks = [
        hooks.IterationTimer(),
        hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
        hooks.EvalHook(cfg.train.eval_period, lambda: _evaluate(cfg, model)),
    ]
    if comm.is_main_process():
        writers = default_writers(cfg.train.output_dir, cfg.train.max_iter)
        # Checkpoints before the evaluation, which may fail; scalars last, when all are there.
        own_hooks.insert(2, hooks.PeriodicCheckpointer(checkpointer, **cfg.train.checkpointer))
        own_hooks.append(hooks.PeriodicWriter(writers, period=cfg.train.log_period))
    trainer.register_hooks(own_hooks)
    with settings_kept(optimizer):
        checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    is_resumed = resume and checkpointer.has_checkpoint()
    trainer.train(trainer.iter + 1 if is_resumed else 0, cfg.train.max_iter)
