"""Which of the two jobs a configuration is: detecting instances, or classifying whole images."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectron2.config import CfgNode

IMAGE_ARCHITECTURE = "ImageClassifier"
BOX_CLASSIFIER = "roi_heads.box_predictor.cls_score"
IMAGE_CLASSIFIER = "classifier"


def classifies_images(cfg: CfgNode) -> bool:
    """Whether `MODEL.META_ARCHITECTURE` is the image classifier."""
    return cfg.MODEL.META_ARCHITECTURE == IMAGE_ARCHITECTURE


def num_classes_key(cfg: CfgNode) -> str:
    """The key that holds the number of classes."""
    node = "IMAGE_CLASSIFIER" if classifies_images(cfg) else "ROI_HEADS"
    return f"MODEL.{node}.NUM_CLASSES"


def num_classes(cfg: CfgNode) -> int:
    """K: of the image classifier, or the foreground classes of the ROI heads."""
    node = cfg.MODEL.IMAGE_CLASSIFIER if classifies_images(cfg) else cfg.MODEL.ROI_HEADS
    return node.NUM_CLASSES


def empty_class_policy(cfg: CfgNode) -> str:
    """What a class without a training sample means: floor or error."""
    node = cfg.MODEL.IMAGE_CLASSIFIER if classifies_images(cfg) else cfg.MODEL.ROI_BOX_HEAD
    return node.EMPTY_CLASSES


def classifier_name(cfg: CfgNode) -> str:
    """The linear classifier among the model's modules, as `MODEL.TRAIN_ONLY` names it."""
    return IMAGE_CLASSIFIER if classifies_images(cfg) else BOX_CLASSIFIER
