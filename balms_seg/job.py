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


def classifier_name(of_images: bool) -> str:
    """The linear classifier among the model's modules, as `MODEL.TRAIN_ONLY` names it."""
    return IMAGE_CLASSIFIER if of_images else BOX_CLASSIFIER
