"""Box predictor, ROI heads and backbones; importing this registers them with detectron2."""

import balms_seg.needs_detectron2  # noqa: F401
from balms_seg.modeling.box_predictor import LongTailedBoxPredictor
from balms_seg.modeling.image_classifier import ImageClassifier
from balms_seg.modeling.keyed_sampling import KeyedRPN, keyed_sampling
from balms_seg.modeling.loss_context import TrainingSchedule
from balms_seg.modeling.mask_head import CosineMaskHead
from balms_seg.modeling.prepare import prepare_model
from balms_seg.modeling.replace import replace_box_classifier
from balms_seg.modeling.roi_heads import (
    BalancedSigmoidROIHeads,
    BalancedSoftmaxROIHeads,
    BALMSROIHeads,
    CascadeLongTailedROIHeads,
    LongTailedROIHeads,
    SigmoidROIHeads,
)
from balms_seg.modeling.small_resnet import build_small_resnet_fpn_backbone

__all__ = [
    "BALMSROIHeads",
    "BalancedSigmoidROIHeads",
    "BalancedSoftmaxROIHeads",
    "CascadeLongTailedROIHeads",
    "CosineMaskHead",
    "ImageClassifier",
    "KeyedRPN",
    "LongTailedBoxPredictor",
    "LongTailedROIHeads",
    "SigmoidROIHeads",
    "TrainingSchedule",
    "build_small_resnet_fpn_backbone",
    "keyed_sampling",
    "prepare_model",
    "replace_box_classifier",
]
