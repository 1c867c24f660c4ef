"""Settings that follow from the data or from a checkpoint, filled in before a run starts."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

from balms_seg.class_statistics.frequency_groups import third_bounds
from balms_seg.data import register_from_config
from balms_seg.data.images.labelled_images import image_classes
from balms_seg.engine.checkpoints.find import saved_runs
from balms_seg.engine.checkpoints.read_file import read_entries
from balms_seg.engine.class_checks import loaded_classes
from balms_seg.engine.jobs.choice import build_job

if TYPE_CHECKING:
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)


def settle_settings(cfg: CfgNode, *, training: bool, resume: bool = False) -> None:
    """Fill in what a configuration leaves to the data, in place.

    The classes of an image classifier that is only used are those that its checkpoint names;
    NUM_CLASSES 0 becomes their number, SOLVER.EPOCHS the iterations, SOLVER.WARMUP_SHARE those of
    the warm-up, and TEST.FIT_GROUP_BOUNDS the bounds of the groups.

    Args:
        cfg: not frozen.
        training: whether the run trains.
        resume: whether it goes on from a checkpoint of OUTPUT_DIR, where there is one.

    Raises:
        ValueError: DATASETS.CLASSES is not what the checkpoint says.
    """
    if build_job(cfg).of_images and not training:
        _take_classes_of_checkpoint(cfg, resume=resume)
    try:
        register_from_config(cfg)
        _settle_from_data(cfg, training=training)
    except (OSError, ValueError, KeyError) as error:
        # Preflight reads the same files next, and tells everything that is wrong at once.
        logger.debug("Left for preflight: %s", error)


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


def _settle_from_data(cfg: CfgNode, *, training: bool) -> None:
    job = build_job(cfg)
    training_set = cache(job.load_training_set)
    if job.of_images and cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES == 0:
        cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES = len(image_classes(cfg))
    if training and cfg.SOLVER.EPOCHS > 0:
        num_images = len(training_set().dicts)
        old = cfg.SOLVER.MAX_ITER
        cfg.SOLVER.MAX_ITER = max(
            1, round(cfg.SOLVER.EPOCHS * num_images / cfg.SOLVER.IMS_PER_BATCH)
        )
        cfg.SOLVER.STEPS = tuple(
            round(step * cfg.SOLVER.MAX_ITER / old) for step in cfg.SOLVER.STEPS
        )
        logger.info(
            "%d epochs of %d images are %d iterations.",
            *(cfg.SOLVER.EPOCHS, num_images, cfg.SOLVER.MAX_ITER),
        )
    if training and cfg.SOLVER.WARMUP_SHARE > 0:
        cfg.SOLVER.WARMUP_ITERS = round(cfg.SOLVER.WARMUP_SHARE * cfg.SOLVER.MAX_ITER)
    if cfg.TEST.FIT_GROUP_BOUNDS and not cfg.TEST.LONG_TAILED.GROUP_BOUNDS:
        bounds = third_bounds(training_set().statistics.image_counts)
        cfg.TEST.LONG_TAILED.GROUP_BOUNDS = [] if bounds is None else list(bounds)
