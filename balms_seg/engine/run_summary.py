"""What a run tells before its first iteration and after its last one."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from balms_seg.config.meta_learning import learned_quantity
from balms_seg.engine.jobs.choice import build_job
from balms_seg.engine.settled_settings import num_iterations
from balms_seg.evaluation.output.group_hints import describe_empty_groups
from balms_seg.evaluation.output.next_to_nothing import FINDS_NOTHING, finds_next_to_nothing
from balms_seg.evaluation.uncertainty.run_seeds import evaluated_model
from balms_seg.evaluation.uncertainty.stored_thresholds import YAML_FILE, predict_command
from balms_seg.model_zoo import configs_that_start_from
from balms_seg.modeling.roi_heads import method_name
from balms_seg.wording import agreeing, counted

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from balms_seg.class_statistics import ClassStatistics
    from balms_seg.data.training_set import ImageNumbers
    from balms_seg.engine.trainer import LongTailedTrainer

_EPOCHS = 50  # an example, and what docs/own_data.md starts with


def describe_start(trainer: LongTailedTrainer) -> str:
    """Data, model, schedule, and what is written where, a line or two each."""
    return in_parts({**describe_run(trainer), "written": _describe_files(trainer.cfg)})


def describe_run(trainer: LongTailedTrainer, *, where: str = "") -> dict[str, list[str]]:
    """Lines about data, model and schedule.

    Args:
        trainer: with its weights loaded.
        where: the model is trained; empty: on its own device.
    """
    cfg = trainer.cfg
    told = {
        "data": _describe_data(cfg, trainer.statistics, trainer.image_numbers),
        "model": _describe_model(trainer, where or cfg.MODEL.DEVICE),
        "schedule": describe_schedule(cfg, trainer.image_numbers.trained_on, trainer.start_iter),
    }
    return told if learned_quantity(cfg) == "none" else {**told, "meta": _describe_meta(cfg)}


def in_parts(parts: Mapping[str, list[str]]) -> str:
    """Lines below the names of their parts."""
    lines = [
        f"  {name if not number else '':<10}{line}"
        for name, lines in parts.items()
        for number, line in enumerate(lines)
    ]
    return "\n".join(["This run", *lines])


def describe_end(cfg: CfgNode) -> str:
    """Where the results are, and the commands that come next, if the model is fit for them."""
    folder, quoted = Path(cfg.OUTPUT_DIR), shlex.quote(cfg.OUTPUT_DIR)
    weights, results = folder / "model_final.pth", folder / "results.json"
    if not results.is_file():
        return f"Weights are in {weights}; nothing was evaluated, for DATASETS.TEST is empty."
    if finds_next_to_nothing(results):
        return f"Results are in {results}. {FINDS_NOTHING}"
    report = f"balms-seg report {quoted} --read-outside"
    rows = {report: "one page: the worst classes and why, with intervals and pictures"}
    if weights.is_file():
        for name in configs_that_start_from(str(weights)):
            rows[f"balms-seg train --config-file {name}"] = "a second stage, from these weights"
    model = evaluated_model(folder)
    if not build_job(cfg).of_images and not {*cfg.DATASETS.TEST} & {*cfg.DATASETS.TRAIN}:
        rows[f"balms-seg thresholds {quoted}"] = (
            f"the score to cut at, class by class, chosen on {', '.join(cfg.DATASETS.TEST)}: "
            "results with them are to be reported on other images"
        )
        if model:
            rows[predict_command(model, folder / YAML_FILE)] = (
                "then, on images of your own, at these scores"
            )
    elif model:
        rows[f"balms-seg predict {shlex.quote(model)} IMAGES --output found"] = (
            "on images of your own"
        )
    lines = [f"  {command}\n      {what}" for command, what in rows.items()]
    return "\n".join([f"Results are in {results}. Next:", *lines])


def _describe_data(cfg: CfgNode, statistics: ClassStatistics, images: ImageNumbers) -> list[str]:
    members = statistics.groups
    groups = ", ".join(f"{len(ids)} {name}" for name, ids in members.items())
    absent = int((statistics.instance_counts == 0).sum())
    numbers = [str(images)]
    if not build_job(cfg).of_images:
        numbers.append(counted(int(statistics.instance_counts.sum()), "object"))
    without = f"; {absent} of them without a training image" if absent else ""
    told = [
        f"{', '.join(cfg.DATASETS.TRAIN)}: {', '.join(numbers)}, "
        f"{counted(statistics.num_classes, 'class')} ({groups}{without})",
        f"evaluated on {', '.join(cfg.DATASETS.TEST) or 'nothing: DATASETS.TEST is empty'}",
    ]
    if not build_job(cfg).of_images and not cfg.TEST.LONG_TAILED.GROUP_BOUNDS:
        sizes = {name: {"classes": len(ids)} for name, ids in members.items()}
        hint = describe_empty_groups(sizes, statistics.image_counts)
        told += hint.splitlines() if hint else []
    return told


def _describe_model(trainer: LongTailedTrainer, where: str) -> list[str]:
    cfg, job = trainer.cfg, build_job(trainer.cfg)
    sizes = [(p.numel(), p.requires_grad) for p in trainer.model.parameters()]
    total = sum(size for size, _ in sizes)
    trained = sum(size for size, is_trained in sizes if is_trained)
    backbone = cfg.MODEL.IMAGE_CLASSIFIER.BACKBONE if job.of_images else cfg.MODEL.BACKBONE.NAME
    start = cfg.MODEL.WEIGHTS or "scratch"
    if "iteration" in trainer.checkpointer.loaded_record:
        start += f" of iteration {trainer.checkpointer.loaded_record['iteration']}"
    if trainer.start_iter:
        start = f"the checkpoint of iteration {trainer.start_iter - 1}"
    method = cfg.MODEL.IMAGE_CLASSIFIER.METHOD if job.of_images else method_name(cfg)
    return [
        f"{cfg.MODEL.META_ARCHITECTURE}, {backbone}: {total:,} parameters, of which "
        f"{trained:,} are trained, on {where}",
        f"classifier {method or 'of detectron2'}, from {start}",
    ]


def describe_schedule(cfg: CfgNode, num_images: int, start_iter: int) -> list[str]:
    """Length, optimiser and rates, evaluations and checkpoints.

    Args:
        cfg: of the run.
        num_images: of the training set.
        start_iter: iterations that are done.
    """
    solver = cfg.SOLVER
    every = cfg.TEST.EVAL_PERIOD
    evaluation = f"evaluation {f'{_every(every)} and ' if every > 0 else ''}at the end"
    if not cfg.DATASETS.TEST:
        evaluation = "no evaluation"
    rounds = solver.MAX_ITER * solver.IMS_PER_BATCH / num_images
    set_by = f"SOLVER.EPOCHS {solver.EPOCHS:g}"
    if not solver.EPOCHS:
        iterations = num_iterations(_EPOCHS, num_images, solver.IMS_PER_BATCH)
        would_be = counted(iterations, "iteration")
        set_by = f"SOLVER.MAX_ITER; SOLVER.EPOCHS {_EPOCHS}, say, would be {would_be}"
    return [
        f"{_iterations_left(start_iter, solver.MAX_ITER)} of "
        f"{counted(solver.IMS_PER_BATCH, 'image')}, in all {_rounded(rounds)} times the training "
        f"set ({set_by}); {solver.OPTIMIZER}, learning rate {solver.BASE_LR:g} after "
        f"{counted(solver.WARMUP_ITERS, 'iteration')} of warm-up, "
        f"{solver.LR_SCHEDULER_NAME}{_described_steps(solver)}",
        f"{evaluation}; checkpoint every {solver.CHECKPOINT_PERIOD}",
    ]


def _iterations_left(start_iter: int, max_iter: int) -> str:
    if start_iter >= max_iter:
        return f"no iteration left ({start_iter} of {max_iter} are done),"
    numbered = f"iterations {start_iter} to {max_iter - 1}"
    if start_iter == max_iter - 1:
        numbered = f"iteration {start_iter}, the last one,"
    return numbered


def _every(period: int) -> str:
    return f"every {agreeing(period, 'iteration', f'{period} iterations')}"


def _rounded(rounds: float) -> str:
    return f"{rounds:,.0f}" if rounds >= 1000 else f"{rounds:.3g}"


def _described_steps(solver: CfgNode) -> str:
    if "Step" not in solver.LR_SCHEDULER_NAME:
        return ""
    taken = [str(step) for step in solver.STEPS if step < solver.MAX_ITER]
    return f" with steps at {', '.join(taken) or 'none'}"


def _describe_meta(cfg: CfgNode) -> list[str]:
    """What the meta step learns and from what."""
    meta = cfg.META
    batch_size = meta.BATCH_SIZE or cfg.SOLVER.IMS_PER_BATCH
    return [
        f"learns {learned_quantity(cfg)} {_every(meta.PERIOD)} by Adam, rate {meta.LR:g}, on "
        f"batches of {counted(batch_size, 'image')} from the {meta.SOURCE}"
    ]


def _describe_files(cfg: CfgNode) -> list[str]:
    folder = cfg.OUTPUT_DIR
    curves = f"curves: tensorboard --logdir {shlex.quote(folder)}"
    if not importlib.util.find_spec("tensorboard"):
        curves = "curves need pip install 'balms-seg[tensorboard]' before the run"
    return [
        f"{folder}: log.txt has everything (environment, configuration, model), metrics.json the "
        "losses",
        curves,
    ]
