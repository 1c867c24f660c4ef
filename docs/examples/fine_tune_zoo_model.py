"""Fine-tune a checkpoint of detectron2's model zoo with Balanced Softmax.

    python docs/examples/fine_tune_zoo_model.py lvis_v0.5_train.json train2017

The checkpoint (downloaded once) was trained with a softmax, which has as many columns: all of its
weights go on. On other classes than its own, detectron2 says which layers start anew.
"""

from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2_project import train
from torch import nn

from balms_seg import ClassStatistics
from balms_seg.modeling import replace_box_classifier

MODEL = "LVISv0.5-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"


def configure(cfg: CfgNode, num_classes: int) -> None:
    """The model and its weights, and a tenth of its schedule and learning rate."""
    cfg.merge_from_file(model_zoo.get_config_file(MODEL))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    cfg.MODEL.WEIGHTS = model_zoo.get_checkpoint_url(MODEL)
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 0.002, 9000, (6000, 8000)


def change_model(model: nn.Module, statistics: ClassStatistics) -> nn.Module:
    """Replace before the weights are loaded, and before the optimiser is built."""
    return replace_box_classifier(model, "balanced_softmax", statistics)


if __name__ == "__main__":
    train(configure, change_model=change_model)
