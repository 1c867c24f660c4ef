"""Settings that follow from the data or from a checkpoint, filled in before a run starts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from balms_seg.class_statistics.frequency_groups import third_bounds
from balms_seg.class_statistics.repeat_threshold import (
    describe_threshold,
    threshold_that_repeats,
)
from balms_seg.data import register_from_config
from balms_seg.data.images.feature_files import num_features
from balms_seg.data.images.labelled_images import image_classes
from balms_seg.declared_keys import require_our_keys
from balms_seg.engine.checkpoints.find import saved_runs
from balms_seg.engine.checkpoints.read_file import read_entries
from balms_seg.engine.class_checks import loaded_classes
from balms_seg.engine.jobs.choice import build_job
from balms_seg.engine.run_data import DataSets
from balms_seg.modeling.image_backbones import FEATURES
from balms_seg.sampling.repeat_factor import AUTO_REPEAT_THRESHOLD, repeat_factor_sampler
from balms_seg.wording import counted

if TYPE_CHECKING:
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)


def settle_settings(
    cfg: CfgNode, sets: DataSets, *, training: bool, resume: bool = False
) -> list[str]:
    """Fill in what a configuration leaves to the data, in place.

    The classes of an image classifier that is only used are those that its checkpoint names;
    NUM_CLASSES 0 becomes their number, NUM_FEATURES 0 that of the sets' features, SOLVER.EPOCHS
    the iterations, SOLVER.WARMUP_SHARE those of the warm-up, REPEAT_THRESHOLD -1 the threshold,
    and TEST.FIT_GROUP_BOUNDS the bounds of the groups.

    Args:
        cfg: not frozen.
        sets: of the run; gets what is read and counted.
        training: whether the run trains.
        resume: whether it goes on from a checkpoint of OUTPUT_DIR, where there is one.

    Returns:
        What was filled in, for people; the loggers do not write yet.

    Raises:
        ValueError: DATASETS.CLASSES is not what the checkpoint says, or the warm-up does not end.
    """
    settled: list[str] = []
    if build_job(cfg).of_images and not training:
        _take_classes_of_checkpoint(cfg, resume=resume)
    try:
        register_from_config(cfg)
        settled = _settle_from_data(cfg, sets, training=training)
    except (OSError, ValueError, KeyError) as error:
        # Preflight reads the same files next, and tells everything that is wrong at once.
        logger.debug("Left for preflight: %s", error)
    if training:
        _settle_warmup(cfg)
    return settled


def num_iterations(epochs: float, num_images: int, batch_size: int) -> int:
    """Those of so many passes through the images, at least one."""
    return max(1, round(epochs * num_images / batch_size))


def with_settled_warmup(cfg: CfgNode) -> CfgNode:
    """A copy whose WARMUP_ITERS are those of its WARMUP_SHARE, where it has one.

    Raises:
        ValueError: the run would end before its warm-up does.
    """
    require_our_keys(cfg)
    settled, is_frozen = cfg.clone(), cfg.is_frozen()
    settled.defrost()
    _settle_warmup(settled)
    if is_frozen:
        settled.freeze()
    return settled


def _settle_warmup(cfg: CfgNode) -> None:
    solver = cfg.SOLVER
    if solver.WARMUP_SHARE > 0:
        solver.WARMUP_ITERS = round(solver.WARMUP_SHARE * solver.MAX_ITER)
    if solver.WARMUP_ITERS >= solver.MAX_ITER:
        raise ValueError(
            f"SOLVER.WARMUP_ITERS is {solver.WARMUP_ITERS} and SOLVER.MAX_ITER {solver.MAX_ITER}: "
            "the run would end before its warm-up does. Set SOLVER.WARMUP_SHARE 0.1, a share of "
            "the run, or SOLVER.WARMUP_ITERS to a smaller number."
        )


def _take_classes_of_checkpoint(cfg: CfgNode, *, resume: bool) -> None:
    saved = next(saved_runs(cfg.OUTPUT_DIR), None) if resume else None
    entries = read_entries(cfg.MODEL.WEIGHTS) if saved is None else saved.entries
    classes = loaded_classes(entries or {})
    if classes is None:
        return
    if cfg.DATASETS.CLASSES and list(cfg.DATASETS.CLASSES) != list(classes.names):
        raise ValueError(
            f"DATASETS.CLASSES is {list(cfg.DATASETS.CLASSES)}, but the checkpoint was trained on "
            f"{list(classes.names)}; leave the key out, as the checkpoint's classes are known."
        )
    cfg.DATASETS.CLASSES = list(classes.names)


def _settle_from_data(cfg: CfgNode, sets: DataSets, *, training: bool) -> list[str]:
    settled = []
    job, load = build_job(cfg), sets.records
    if job.of_images and cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES == 0:
        cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES = len(image_classes(cfg, load=load))
    classifier = cfg.MODEL.IMAGE_CLASSIFIER
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if job.of_images and classifier.BACKBONE == FEATURES and not classifier.NUM_FEATURES and names:
        classifier.NUM_FEATURES = num_features(load(names[0]))
    if training and cfg.SOLVER.EPOCHS > 0:
        num_images = len(sets.training_set(job).dicts)
        old = cfg.SOLVER.MAX_ITER
        cfg.SOLVER.MAX_ITER = num_iterations(
            cfg.SOLVER.EPOCHS, num_images, cfg.SOLVER.IMS_PER_BATCH
        )
        cfg.SOLVER.STEPS = tuple(
            round(step * cfg.SOLVER.MAX_ITER / old) for step in cfg.SOLVER.STEPS
        )
        settled.append(
            f"SOLVER.EPOCHS: {cfg.SOLVER.EPOCHS} epochs of {counted(num_images, 'image')} are "
            f"{cfg.SOLVER.MAX_ITER} iterations."
        )
    if training and cfg.DATALOADER.REPEAT_THRESHOLD == AUTO_REPEAT_THRESHOLD:
        whole = sets.training_set(job)
        sampler = repeat_factor_sampler(cfg)
        frequency = sampler.class_frequency(whole.dicts, whole.statistics.num_classes)
        threshold = cfg.DATALOADER.REPEAT_THRESHOLD = threshold_that_repeats(frequency)
        if whole.statistics.sampled_counts is not None:
            sets.counted = None  # how often images are drawn depends on it
        settled.append(describe_threshold(threshold, frequency))
    if cfg.TEST.FIT_GROUP_BOUNDS and not cfg.TEST.LONG_TAILED.GROUP_BOUNDS:
        whole = sets.training_set(job)
        bounds = third_bounds(whole.statistics.image_counts)
        if bounds is not None:
            cfg.TEST.LONG_TAILED.GROUP_BOUNDS = list(bounds)
            sets.counted = whole.grouped(bounds)
            first, second, third = map(len, sets.counted.statistics.groups.values())
            settled.append(
                f"TEST.LONG_TAILED.GROUP_BOUNDS is {list(bounds)}: the largest numbers of training "
                "images in the first and in the second group, which with the third hold "
                f"{first}, {second} and {third} classes."
            )
    return settled
