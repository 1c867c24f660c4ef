"""torchvision's detectors, small, of three classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

K = 3
COUNTS = torch.tensor([90, 9, 3])
SIZES = {"min_size": 64, "max_size": 64}


class Backbone(nn.Sequential):
    out_channels = 8

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3, stride=8, padding=1), nn.ReLU())


class Predictor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_score, self.bbox_pred = nn.Linear(16, K + 1), nn.Linear(16, 4 * (K + 1))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(features), self.bbox_pred(features)


def anchors() -> AnchorGenerator:
    return AnchorGenerator(((16, 32),), ((1.0,),))


def tiny_mask_rcnn() -> MaskRCNN:
    torch.manual_seed(0)
    return MaskRCNN(
        Backbone(),
        rpn_anchor_generator=anchors(),
        box_roi_pool=MultiScaleRoIAlign(["0"], 2, 1),
        mask_roi_pool=MultiScaleRoIAlign(["0"], 4, 1),
        box_head=nn.Sequential(nn.Flatten(), nn.Linear(32, 16), nn.ReLU()),
        box_predictor=Predictor(),
        mask_head=nn.Conv2d(8, 8, 3, padding=1),
        mask_predictor=nn.ConvTranspose2d(8, K + 1, 2, stride=2),
        box_batch_size_per_image=16,
        **SIZES,
    )


def tiny_retinanet() -> RetinaNet:
    torch.manual_seed(0)
    return RetinaNet(Backbone(), K + 1, anchor_generator=anchors(), **SIZES)
