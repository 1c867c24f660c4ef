"""Cascade Mask R-CNN with Balanced Softmax in each of its three classifiers.

    python docs/examples/cascade_rcnn.py train.json train_images

On one GPU add SOLVER.IMS_PER_BATCH 2 SOLVER.BASE_LR 0.0025: a batch of detectron2's 16 images is
for eight. Memory was not measured.
"""

from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2_project import train


def configure(cfg: CfgNode, num_classes: int) -> None:
    """The cascade of detectron2's model zoo."""
    cfg.merge_from_file(model_zoo.get_config_file("Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml"))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    cfg.MODEL.ROI_HEADS.NAME = "CascadeLongTailedROIHeads"  # instead of CascadeROIHeads
    cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER = "balanced_softmax"


if __name__ == "__main__":
    train(configure)
