"""A small residual network with a feature pyramid, for CPUs and small data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detectron2.modeling.backbone import BACKBONE_REGISTRY, FPN, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem

from balms_seg.declared_keys import require_our_keys

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from detectron2.layers import ShapeSpec


@BACKBONE_REGISTRY.register()
def build_small_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Basic blocks behind a stride-4 stem, and an FPN over all stages.

    Reads `MODEL.SMALL_RESNET.{WIDTHS,BLOCKS}`, `MODEL.RESNETS.NORM` and `MODEL.FPN.{OUT_CHANNELS,
    NORM,FUSE_TYPE}`. The stages are res2, res3, ... at strides 4, 8, ...; the outputs p2, p3, ...
    """
    require_our_keys(cfg)
    widths, blocks = cfg.MODEL.SMALL_RESNET.WIDTHS, cfg.MODEL.SMALL_RESNET.BLOCKS
    if len(widths) != len(blocks):
        raise ValueError(
            f"MODEL.SMALL_RESNET.WIDTHS has {len(widths)} stages but BLOCKS has {len(blocks)}."
        )
    if any(width == wider for width, wider in zip(widths, widths[1:], strict=False)):
        raise ValueError(
            f"MODEL.SMALL_RESNET.WIDTHS is {widths}; expected the width to change from stage to "
            "stage, because detectron2's BasicBlock has no shortcut that strides at equal width."
        )
    norm = cfg.MODEL.RESNETS.NORM
    stem = BasicStem(in_channels=input_shape.channels, out_channels=widths[0], norm=norm)
    stages = []
    for index, (width, num_blocks) in enumerate(zip(widths, blocks, strict=True)):
        first_stride = 1 if index == 0 else 2
        stages.append(
            ResNet.make_stage(
                BasicBlock,
                num_blocks,
                stride_per_block=[first_stride] + [1] * (num_blocks - 1),
                in_channels=widths[max(index - 1, 0)],
                out_channels=width,
                norm=norm,
            )
        )
    names = [f"res{index + 2}" for index in range(len(stages))]
    fpn = FPN(
        bottom_up=ResNet(stem, stages, out_features=names),
        in_features=names,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
    # Data-parallel training needs a gradient for whatever is trained, so not for unused levels.
    used = {*cfg.MODEL.RPN.IN_FEATURES, *cfg.MODEL.ROI_HEADS.IN_FEATURES}
    for level in range(2, len(names) + 2):
        if f"p{level}" not in used:
            getattr(fpn, f"fpn_output{level}").requires_grad_(False)
    return fpn
