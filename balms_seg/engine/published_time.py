"""How long detectron2's own training of a model took, where its model zoo says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.config.meta_learning import learned_quantity

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# Seconds of an iteration of Mask R-CNN with FPN on LVIS v0.5, two images on each of 8 V100 GPUs, by
# (depth, groups, width of a group); source: detectron2's MODEL_ZOO.md.
_SECONDS = {(50, 1, 64): 0.292, (101, 1, 64): 0.371, (101, 32, 8): 0.712}
_IMAGES = 2  # on a GPU
_BANK_SHARE = 0.1  # of an iteration, for a meta step with the feature bank; docs/balms.md
_PAGE = "docs/training_cost.md has the models that it is published for"


def describe_published_time(cfg: CfgNode, *, num_images: int, num_iters: int) -> str:
    """The hours of a training by the published seconds, or why there are none.

    Args:
        cfg: of the run.
        num_images: on each GPU.
        num_iters: of the training.
    """
    model, resnet = cfg.MODEL, cfg.MODEL.RESNETS
    seconds = _SECONDS.get((resnet.DEPTH, resnet.NUM_GROUPS, resnet.WIDTH_PER_GROUP))
    is_that_model = (
        model.BACKBONE.NAME == "build_resnet_fpn_backbone"
        and model.MASK_ON
        and "Cascade" not in model.ROI_HEADS.NAME
        and all(name.startswith("lvis_") for name in cfg.DATASETS.TRAIN)
    )
    if seconds is None or not is_that_model:
        return f"not published for this model on these data; {_PAGE}"
    if num_images > _IMAGES:
        return f"not published for {num_images} images a GPU, but for {_IMAGES}; {_PAGE}"
    share, notes = _meta_share(cfg), ""
    if share:
        notes += f", times {1 + share:g} for the meta step"
    if model.TRAIN_ONLY:
        notes += "; only a part of it is trained here, in less time"
    hours = num_iters * seconds * (1 + share) / 3600
    is_bound = num_images < _IMAGES or model.TRAIN_ONLY
    return (
        f"{'at most' if is_bound else 'about'} {hours:.{0 if hours >= 10 else 1}f} "
        f"hours at {seconds:g} s an iteration of two images a GPU, which detectron2 publishes for "
        f"this model on V100 GPUs{notes}; not measured here, and "
        "evaluations come on top"
    )


def _meta_share(cfg: CfgNode) -> float:
    """What a meta step adds to an iteration: a batch of its own, or rows from the feature bank."""
    if learned_quantity(cfg) == "none":
        return 0.0
    if cfg.META.SOURCE == "feature_bank":
        return _BANK_SHARE
    return (cfg.META.BATCH_SIZE or cfg.SOLVER.IMS_PER_BATCH) / cfg.SOLVER.IMS_PER_BATCH
