"""A Cascade Mask R-CNN on a backbone of one's own, as a Python configuration (LazyConfig).

    balms-seg train --num-gpus 1 docs/examples/lazy_cascade.py

Trains on train.json and the images in train/ of the current folder.
"""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from balms_seg import ClassStatistics
from balms_seg.modeling.lazy_config import set_method


class OwnBackbone(Backbone):
    """Four maps, each of half the size of the one before."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 7, stride=4, padding=3)
        self.stages = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=1 if stage == 2 else 2, padding=1)
            for stage in range(2, 6)
        )
        self.channels = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """res2 to res5."""
        maps, features = {}, self.stem(images)
        for name, stage in zip(self.output_shape(), self.stages, strict=True):
            maps[name] = features = stage(features).relu()
        return maps

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and strides."""
        return {
            f"res{stage}": ShapeSpec(channels=self.channels, stride=2**stage)
            for stage in range(2, 6)
        }


if "my_train" not in DatasetCatalog:
    register_coco_instances("my_train", {}, "train.json", "train")
statistics = L(ClassStatistics.from_json)(source="train.json")

model = model_zoo.get_config("common/models/cascade_rcnn.py").model
model.backbone = L(FPN)(
    bottom_up=L(OwnBackbone)(channels=64),
    in_features=["res2", "res3", "res4", "res5"],
    out_channels=256,
    top_block=L(LastLevelMaxPool)(),
)
model.roi_heads.num_classes = ClassStatistics.from_json("train.json").num_classes
set_method(model.roi_heads.box_predictors, "balanced_softmax")  # of all stages

dataloader = model_zoo.get_config("common/data/coco.py").dataloader
dataloader.train.dataset.names = "my_train"
del dataloader.evaluator
optimizer = model_zoo.get_config("common/optim.py").SGD
lr_multiplier = model_zoo.get_config("common/coco_schedule.py").lr_multiplier_1x
train = model_zoo.get_config("common/train.py").train
