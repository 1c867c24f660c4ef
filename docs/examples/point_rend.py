"""PointRend's masks with Balanced Softmax.

    python docs/examples/point_rend.py train.json train_images

Mask R-CNN R-50-FPN as PointRend configures it (arXiv 1912.08193).
On one GPU add SOLVER.IMS_PER_BATCH 2 SOLVER.BASE_LR 0.0025: a batch of detectron2's 16 images is
for eight. Memory was not measured.
"""

from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2.projects import point_rend
from detectron2_project import train


def configure(cfg: CfgNode, num_classes: int) -> None:
    """PointRend on FPN; its project's yaml files can be merged instead."""
    point_rend.add_pointrend_config(cfg)
    cfg.merge_from_file(model_zoo.get_config_file("Base-RCNN-FPN.yaml"))
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES = True
    cfg.MODEL.ROI_MASK_HEAD.NAME = "PointRendMaskHead"
    cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE = ""
    cfg.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON = True
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.MODEL.POINT_HEAD.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    cfg.MODEL.ROI_HEADS.NAME = "LongTailedROIHeads"  # instead of StandardROIHeads
    cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER = "balanced_softmax"


if __name__ == "__main__":
    train(configure)
