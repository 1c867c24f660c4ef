"""Everything up to the first iteration, in one process, and what the run would be."""

from __future__ import annotations

import logging
import math
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from detectron2.utils.events import EventStorage

from balms_seg.class_statistics import ClassStatistics
from balms_seg.data.instances.builtin import BUILTIN_LVIS_NAMES, describe_downloads
from balms_seg.data.preflight.data_checks import PreflightError
from balms_seg.data.training_set import TrainingSet
from balms_seg.engine.batch_size import scaled_to
from balms_seg.engine.checkpoints.find import saved_runs
from balms_seg.engine.classifier_step import ClassifierStep
from balms_seg.engine.config_files import load_config
from balms_seg.engine.jobs.choice import build_job
from balms_seg.engine.output_folder import earlier_run
from balms_seg.engine.published_time import describe_published_time
from balms_seg.engine.run import load_model
from balms_seg.engine.run_data import DataSets, RunData
from balms_seg.engine.run_setup import setup
from balms_seg.engine.run_summary import describe_run, in_parts
from balms_seg.engine.step import TrainingStep
from balms_seg.engine.trainer import LongTailedTrainer
from balms_seg.engine.training_memory import (
    CONTEXT_BYTES,
    PEAK_FACTOR,
    TrainingMemory,
    activation_bytes,
    mask_logit_bytes,
    num_foreground_rows,
    training_memory,
)
from balms_seg.image_batch import ImageBatch
from balms_seg.sampling import expected_repeats
from balms_seg.wording import counted

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from torch import nn

logger = logging.getLogger(__name__)


def dry_run(args: Namespace) -> str:
    """Check a run and say what it would be; OUTPUT_DIR is left as it is.

    With --eval-only data and checkpoint are read and checked. Of a training, data are read and
    checked, the model is built and its weights are loaded, and one batch goes forward. All is on
    the CPU where there is no CUDA. Schedule and memory are those of --num-gpus times
    --num-machines processes; with --resume the schedule is what is left of it. Weights that cannot
    be downloaded, and those of a stage that has not been trained, are warned of and left out.

    Args:
        args: of `balms-seg train`.

    Raises:
        ValueError: the batch cannot be shared out.
    """
    folder = load_config(args.config_file, args.opts).OUTPUT_DIR
    if args.eval_only:
        return _dry_evaluation(args, folder)
    num_processes, on_gpus = max(args.num_gpus, 1) * args.num_machines, args.num_gpus > 0
    with tempfile.TemporaryDirectory() as scratch:
        sets = DataSets()
        cfg = _planned(setup(args, sets, scratch=scratch), num_processes)
        with _naming_published_costs(cfg):
            trainer = _PlannedTrainer(cfg, sets)
        trainer.checkpointer.save_dir = folder  # only read: nothing is trained
        try:
            trainer.resume_or_load(resume=args.resume)
        except ConnectionError as error:
            logger.warning("%s The plan goes on from scratch.", error)
        return in_parts(
            {
                **describe_run(trainer, where=_processes(num_processes, on_gpus=on_gpus)),
                "sampling": _describe_sampling(cfg, trainer.training_set),
                "memory": _describe_memory(trainer, num_processes, on_gpus=on_gpus),
                "time": [_describe_time(trainer, num_processes)] if on_gpus else [],
                "disk": _describe_disk(trainer),
                **_describe_folder(folder, args),
            }
        )


@contextmanager
def _naming_published_costs(cfg: CfgNode) -> Iterator[None]:
    """Let the error for LVIS that is not there say where its hours and memory stand."""
    try:
        yield
    except PreflightError as error:
        lvis = set(cfg.DATASETS.TRAIN).intersection(BUILTIN_LVIS_NAMES)
        if not any(describe_downloads(name) in told for name in lvis for told in error.problems):
            raise
        costs = "Without the data, hours and memory of LVIS are in docs/training_cost.md."
        raise PreflightError(error.problems, after=costs) from error


def _dry_evaluation(args: Namespace, folder: str) -> str:
    """What would be evaluated, once its data and its checkpoint have been read and checked."""
    last = next(saved_runs(folder), None) if args.resume else None
    if last is not None:  # by its path, for the folder is another one here
        opts = [*args.opts, "MODEL.WEIGHTS", str(last.path)]
        args = Namespace(**{**vars(args), "opts": opts, "resume": False})
    sets = DataSets()
    with tempfile.TemporaryDirectory() as scratch:
        cfg = setup(args, sets, scratch=scratch)
        RunData(cfg, training=False, sets=sets)
        size = sum(parameter.numel() for parameter in load_model(cfg).parameters())
    told = [f"{name}: {counted(len(sets.records(name)), 'image')}" for name in cfg.DATASETS.TEST]
    return in_parts(
        {
            "data": [f"evaluated on {', '.join(told) or 'nothing: DATASETS.TEST is empty'}"],
            "model": [f"{size:,} parameters, all of them in {cfg.MODEL.WEIGHTS}"],
        }
    )


def _planned(cfg: CfgNode, num_processes: int) -> CfgNode:
    """The configuration of that many processes, for one that scales nothing itself."""
    cfg = scaled_to(cfg, num_processes).clone()
    batch_size = cfg.SOLVER.IMS_PER_BATCH
    if batch_size % num_processes:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {batch_size}, which cannot be shared out among "
            f"{num_processes} processes; set it to a multiple."
        )
    cfg.defrost()
    cfg.SOLVER.REFERENCE_WORLD_SIZE = cfg.SOLVER.REFERENCE_IMS_PER_BATCH = 0
    cfg.DATALOADER.NUM_WORKERS = 0  # one batch is wanted
    if cfg.INPUT.MIN_SIZE_TRAIN:  # twice, for sizes drawn from a range have two ends
        cfg.INPUT.MIN_SIZE_TRAIN = 2 * (max(cfg.INPUT.MIN_SIZE_TRAIN),)
    if cfg.MODEL.INIT_CLASSIFIER == "discriminant":
        cfg.MODEL.INIT_CLASSIFIER = "reset"  # whose features would be those of all images
    cfg.freeze()
    return cfg


class _PlannedTrainer(LongTailedTrainer):
    """Keeps the training set, which a run drops once it has been handed out."""

    training_set: TrainingSet

    def _build_step(self, cfg: CfgNode, model: Any, optimizer: Any, data: RunData) -> TrainingStep:
        self.training_set = data.training_set
        return super()._build_step(cfg, model, optimizer, data)


def _describe_sampling(cfg: CfgNode, data: TrainingSet) -> list[str]:
    """The share of each group among the objects (or images) of the set, and as they are drawn."""
    repeats = expected_repeats(cfg, data.dicts, num_classes=data.num_classes)
    drawn = ClassStatistics.from_dataset_dicts(
        data.dicts, data.num_classes, repeat_factors=repeats
    ).sampled_counts
    assert drawn is not None
    if data.statistics.pasted is not None:
        drawn = drawn + repeats.mean() * data.statistics.pasted.instances
    counts = data.statistics.instance_counts
    what = "images" if build_job(cfg).of_images else "objects"
    shares = [
        f"{name} {counts[ids].sum() / counts.sum():.1%} -> {drawn[ids].sum() / drawn.sum():.1%}"
        for name, ids in data.statistics.groups.items()
    ]
    return [
        cfg.DATALOADER.SAMPLER_TRAIN,
        f"share of {what}, in the set -> as drawn at first: {', '.join(shares)}",
    ]


def _describe_memory(trainer: _PlannedTrainer, num_processes: int, *, on_gpus: bool) -> list[str]:
    cfg, step = trainer.cfg, trainer._trainer
    batch: Any = next(iter(step.data_loader))
    is_of_images, how = isinstance(batch, ImageBatch), ""
    if is_of_images:
        few: Any = batch.first(2)  # normalisation over a batch needs two
    else:
        few = [_with_most_objects(batch[0], cfg)]
        how = ", at the largest size and as if full of objects"
    with EventStorage(0):
        kept = activation_bytes(step.losses, few, step.model) // len(few)
    memory = _memory(cfg, step.model, kept)
    num_images = cfg.SOLVER.IMS_PER_BATCH // num_processes
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimiser": memory.optimizer,
        "moving average": memory.average,
        f"activations ({num_images} x {_mib(memory.activations)})": num_images * memory.activations,
    }
    if not is_of_images and not isinstance(step, ClassifierStep):
        parts["logits of masks"] = num_images * mask_logit_bytes(cfg, step.model)
    tensors, plan = sum(parts.values()), ""
    if on_gpus:
        parts["CUDA"] = CONTEXT_BYTES
        if "logits of masks" in parts:
            plan = f", plan with {_mib(int(PEAK_FACTOR * tensors) + CONTEXT_BYTES)}"
    told = ", ".join(f"{name} {_mib(size)}" for name, size in parts.items() if size)
    where = _processes(num_processes, on_gpus=on_gpus)
    where = where if num_processes == 1 else f"each of {where}"
    on_top = "buffers of convolutions and wider images come on top"
    if isinstance(step, ClassifierStep):
        on_top += (
            ", and what the trunk holds on its way, which needs no gradients: what the first stage "
            "needs is enough"
        )
    return [
        f"at least {_mib(sum(parts.values()))} on {where}{plan}: {told}",
        f"activations are what the backward pass needs of the first image drawn{how}"
        f"{' (mixed precision as on this machine)' if cfg.SOLVER.AMP.ENABLED else ''}; {on_top}",
    ]


def _memory(cfg: CfgNode, model: nn.Module, activations: int) -> TrainingMemory:
    return training_memory(
        model,
        activations,
        optimizer=cfg.SOLVER.OPTIMIZER,
        has_average=cfg.SOLVER.EMA_DECAY > 0,
    )


def _describe_time(trainer: _PlannedTrainer, num_processes: int) -> str:
    solver = trainer.cfg.SOLVER
    return describe_published_time(
        trainer.cfg,
        num_images=solver.IMS_PER_BATCH // num_processes,
        num_iters=max(solver.MAX_ITER - trainer.start_iter, 0),
    )


def _describe_disk(trainer: _PlannedTrainer) -> list[str]:
    """The checkpoints that lie there at once, at most."""
    cfg, keep = trainer.cfg, trainer.cfg.SOLVER.CHECKPOINTS_TO_KEEP
    memory = _memory(cfg, trainer.checkpointer.model, 0)
    size = memory.weights + memory.optimizer + memory.average
    num_written = cfg.SOLVER.MAX_ITER // cfg.SOLVER.CHECKPOINT_PERIOD
    num_kept = min(num_written, keep or num_written)
    number = num_kept + 1 + bool(cfg.TEST.BEST_METRIC)
    best = "the best, " if cfg.TEST.BEST_METRIC else ""
    return [
        f"about {_gb(number * size)} for checkpoints of {_gb(size)}: {best}the final one and "
        f"{num_kept} of {num_written} periodic ones (SOLVER.CHECKPOINTS_TO_KEEP {keep} newest; 0: "
        "all)"
    ]


def _processes(number: int, *, on_gpus: bool) -> str:
    """What trains, in words."""
    one, many = ("the GPU", "GPUs") if on_gpus else ("the CPU", "processes")
    return one if number == 1 else f"{number} {many}"


def _describe_folder(folder: str, args: Namespace) -> dict[str, list[str]]:
    """What the run itself has to be told of a used folder, where it is not told yet."""
    earlier = earlier_run(folder)
    if not earlier or args.resume or getattr(args, "overwrite", False):
        return {}
    return {"output": [f"{earlier} The run needs --resume, --overwrite or another OUTPUT_DIR."]}


def _with_most_objects(record: dict[str, Any], cfg: CfgNode) -> dict[str, Any]:
    """An image with as many objects as proposals on objects are sampled.

    Objects are proposals too: an untrained network proposes few others that lie on one.
    """
    objects = record["instances"]
    times = math.ceil(num_foreground_rows(cfg) / len(objects)) if len(objects) else 1
    return {**record, "instances": objects.cat([objects] * times)}


def _gb(size: int) -> str:
    return f"{size / 1e9:.2g} GB"


def _mib(size: int) -> str:
    if size >= 2**30:
        return f"{size / 2**30:.1f} GiB"
    return f"{size / 2**20:,.0f} MiB" if size >= 2**20 else f"{size / 2**10:,.0f} KiB"
