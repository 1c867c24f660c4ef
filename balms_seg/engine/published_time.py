"""How long detectron2's own training of a model took, where its model zoo says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.config.meta_learning import learned_quantity

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# Seconds of an iteration of Mask R-CNN with FPN, two images on each of 8 V100 GPUs, by (depth,
# groups, width of a group); source: detectron2's MODEL_ZOO.md.
_SECONDS = {
    "LVIS v0.5": {(50, 1, 64): 0.292, (101, 1, 64): 0.371, (101, 32, 8): 0.712},
    "COCO": {(50, 1, 64): 0.261, (101, 1, 64): 0.340, (101, 32, 8): 0.690},
}
# By the number of classes, which the mask logits depend on; 1,203 are those of LVIS v1.
_SETS = {1230: "LVIS v0.5", 1203: "LVIS v0.5", 80: "COCO"}
_IMAGES = 2  # on a GPU
_HEIGHT = 800  # of the largest images
_BANK_SHARE = 0.1  # of an iteration, for a meta step with the feature bank; docs/balms.md
_ADVICE = (
    "docs/training_cost.md has what it is published for, and the lines of the run have the time "
    "left (eta)"
)


def describe_published_time(cfg: CfgNode, *, num_images: int, num_iters: int) -> str:
    """The hours of a training by the published seconds, or what they are not published for.

    With the hours between two checkpoints, which is what an end without a signal may cost.

    Args:
        cfg: of the run.
        num_images: on each GPU.
        num_iters: of the training.
    """
    if not _is_mask_rcnn(cfg):
        return f"not published for this model: {_ADVICE}"
    model, height = cfg.MODEL, max(cfg.INPUT.MIN_SIZE_TRAIN, default=0)
    num_classes = model.ROI_HEADS.NUM_CLASSES
    is_other = {
        f"{num_classes} classes": num_classes not in _SETS,
        f"images {height} px high": height != _HEIGHT,
        "mixed precision": cfg.SOLVER.AMP.ENABLED,
    }
    others = [what for what, applies in is_other.items() if applies]
    if others:
        return f"not published for {', '.join(others)}: {_ADVICE}"
    data = _SETS[num_classes]
    seconds = _SECONDS[data][_backbone(cfg)]
    share, notes = _meta_share(cfg), ""
    factor = max(num_images / _IMAGES, 1)
    if factor > 1:
        notes += f", taken {factor:g} times as long for {num_images}"
    if share:
        notes += f", times {1 + share:g} for the meta step"
    if model.TRAIN_ONLY:
        notes += "; only a part of it is trained here, in less time"
    each = seconds * factor * (1 + share)
    limit = "at most" if num_images < _IMAGES or model.TRAIN_ONLY else "about"
    period = cfg.SOLVER.CHECKPOINT_PERIOD
    if period < num_iters:
        notes += f"; {limit} {_hours(period * each)} from one checkpoint to the next "
        notes += "(SOLVER.CHECKPOINT_PERIOD)"
    return (
        f"{limit} {_hours(num_iters * each)} at {seconds:g} s an iteration of two images a GPU, "
        f"which detectron2 publishes for this model on {data} and V100 GPUs{notes}; "
        "not measured here, and evaluations come on top"
    )


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.{0 if hours >= 10 else 1}f} hours"


def _is_mask_rcnn(cfg: CfgNode) -> bool:
    """Whether it is one of the published models."""
    model = cfg.MODEL
    return (
        model.BACKBONE.NAME == "build_resnet_fpn_backbone"
        and _backbone(cfg) in _SECONDS["COCO"]
        and model.MASK_ON
        and "Cascade" not in model.ROI_HEADS.NAME
    )


def _backbone(cfg: CfgNode) -> tuple[int, int, int]:
    resnet = cfg.MODEL.RESNETS
    return resnet.DEPTH, resnet.NUM_GROUPS, resnet.WIDTH_PER_GROUP


def _meta_share(cfg: CfgNode) -> float:
    """What a meta step adds to an iteration: a batch of its own, or rows from the feature bank."""
    if learned_quantity(cfg) == "none":
        return 0.0
    if cfg.META.SOURCE == "feature_bank":
        return _BANK_SHARE
    return (cfg.META.BATCH_SIZE or cfg.SOLVER.IMS_PER_BATCH) / cfg.SOLVER.IMS_PER_BATCH
