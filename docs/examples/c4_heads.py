"""Heads without a name of ours, here C4's (`Res5ROIHeads`): the classifier is replaced.

    python docs/examples/c4_heads.py train.json train_images

On one GPU add SOLVER.IMS_PER_BATCH 2 SOLVER.BASE_LR 0.0025: a batch of detectron2's 16 images is
for eight. Memory was not measured.
"""

from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2_project import train
from torch import nn

from balms_seg import ClassStatistics
from balms_seg.modeling import replace_box_classifier


def configure(cfg: CfgNode, num_classes: int) -> None:
    """As in detectron2's model zoo."""
    path = "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml"
    cfg.merge_from_file(model_zoo.get_config_file(path))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes


def change_model(model: nn.Module, statistics: ClassStatistics) -> nn.Module:
    """Balanced Softmax; any head will do whose box predictor is `FastRCNNOutputLayers`."""
    return replace_box_classifier(model, "balanced_softmax", statistics)


if __name__ == "__main__":
    train(configure, change_model=change_model)
