"""How long detectron2's own training of a model took, where its model zoo says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# Seconds of an iteration of Mask R-CNN with FPN on LVIS v0.5, two images on each of 8 V100 GPUs, by
# (depth, groups, width of a group); source: detectron2's MODEL_ZOO.md.
_SECONDS = {(50, 1, 64): 0.292, (101, 1, 64): 0.371, (101, 32, 8): 0.712}
_IMAGES = 2  # on a GPU


def describe_published_time(cfg: CfgNode, *, num_images: int, num_iters: int) -> str:
    """The hours of a training by the published seconds; empty for a model that has none.

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
        and not model.TRAIN_ONLY
        and "Cascade" not in model.ROI_HEADS.NAME
        and all(name.startswith("lvis_") for name in cfg.DATASETS.TRAIN)
    )
    if seconds is None or not is_that_model or num_images > _IMAGES:
        return ""
    hours = num_iters * seconds / 3600
    return (
        f"{'about' if num_images == _IMAGES else 'at most'} {hours:.{0 if hours >= 10 else 1}f} "
        f"hours at {seconds:g} s an iteration of two images a GPU, which detectron2 publishes for "
        "this model on V100 GPUs; not measured here, and evaluations come on top"
    )
