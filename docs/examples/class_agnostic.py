"""Boxes and masks that do not depend on the class, which rare classes share with frequent ones.

    python docs/examples/class_agnostic.py train.json train_images

On one GPU add SOLVER.IMS_PER_BATCH 2 SOLVER.BASE_LR 0.0025: a batch of detectron2's 16 images is
for eight. Memory was not measured. With many classes the branches need less of it.
"""

from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2_project import train


def configure(cfg: CfgNode, num_classes: int) -> None:
    """Mask R-CNN whose classifier alone knows of classes."""
    path = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
    cfg.merge_from_file(model_zoo.get_config_file(path))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = True
    cfg.MODEL.ROI_HEADS.NAME = "LongTailedROIHeads"  # instead of StandardROIHeads
    cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER = "balanced_softmax"


if __name__ == "__main__":
    train(configure)
