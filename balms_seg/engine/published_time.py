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
_HEIGHT = 800  # of the largest images
_CLASSES = (1230, 1203)  # LVIS v0.5, and v1, whose mask logits are about as many
_BANK_SHARE = 0.1  # of an iteration, for a meta step with the feature bank; docs/balms.md
_ADVICE = (
    "docs/training_cost.md has what it is published for, and the lines of the run have the time "
    "left (eta)"
)


def describe_published_time(cfg: CfgNode, *, num_images: int, num_iters: int) -> str:
    """The hours of a training by the published seconds, or what they are not published for.

    Args:
        cfg: of the run.
        num_images: on each GPU.
        num_iters: of the training.
    """
    seconds = _published_seconds(cfg)
    if seconds is None:
        return f"not published for this model: {_ADVICE}"
    model, height = cfg.MODEL, max(cfg.INPUT.MIN_SIZE_TRAIN, default=0)
    num_classes = model.ROI_HEADS.NUM_CLASSES
    is_other = {
        f"{num_classes} classes": num_classes not in _CLASSES,
        f"{num_images} images a GPU": num_images > _IMAGES,
        f"images {height} px high": height != _HEIGHT,
        "mixed precision": cfg.SOLVER.AMP.ENABLED,
    }
    others = [what for what, applies in is_other.items() if applies]
    if others:
        return f"not published for {', '.join(others)}: {_ADVICE}"
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
        f"this model on LVIS v0.5 and V100 GPUs{notes}; not measured here, and "
        "evaluations come on top"
    )


def _published_seconds(cfg: CfgNode) -> float | None:
    """Of an iteration of this model; None: of another one."""
    model, resnet = cfg.MODEL, cfg.MODEL.RESNETS
    is_mask_rcnn = (
        model.BACKBONE.NAME == "build_resnet_fpn_backbone"
        and model.MASK_ON
        and "Cascade" not in model.ROI_HEADS.NAME
    )
    key = (resnet.DEPTH, resnet.NUM_GROUPS, resnet.WIDTH_PER_GROUP)
    return _SECONDS.get(key) if is_mask_rcnn else None


def _meta_share(cfg: CfgNode) -> float:
    """What a meta step adds to an iteration: a batch of its own, or rows from the feature bank."""
    if learned_quantity(cfg) == "none":
        return 0.0
    if cfg.META.SOURCE == "feature_bank":
        return _BANK_SHARE
    return (cfg.META.BATCH_SIZE or cfg.SOLVER.IMS_PER_BATCH) / cfg.SOLVER.IMS_PER_BATCH
