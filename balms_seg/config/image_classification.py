"""The image classifier: its loss, its backbone and its classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.config.methods import classifier_problems, expected_method
from balms_seg.config.values import below, outside

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def add_keys(cfg: CfgNode) -> None:
    """Declare the MODEL.IMAGE_CLASSIFIER keys."""
    from detectron2.config import CfgNode

    from balms_seg.modeling.classifier_layer import IMAGE_COSINE_SCALE

    classifier = cfg.MODEL.IMAGE_CLASSIFIER = CfgNode()
    # Loss of MODEL.META_ARCHITECTURE ImageClassifier, a key of balms_seg.methods.METHODS.
    classifier.METHOD = "softmax"
    # K; 0: as many as the training set has.
    classifier.NUM_CLASSES = 10
    # cifar_resnet32 | resnet10 | resnet18 | resnet50 | resnet152 | resnext50 (torchvision's) |
    # efficientnet_lite0 (of the extra `pretrained`) | features (none: the sets are of features).
    classifier.BACKBONE = "cifar_resnet32"
    # D of BACKBONE features; 0: as many as the data sets have.
    classifier.NUM_FEATURES = 0
    # Factor on the channels of every layer of the backbone.
    classifier.WIDTH = 1
    # Start from ImageNet weights: torchvision's, which are downloaded where they are not cached, or
    # those of the extra `pretrained`.
    classifier.PRETRAINED = False
    # linear | cosine (of normalised features and weights). auto: what the method is made for.
    classifier.CLASSIFIER = "auto"
    # What a cosine classifier multiplies its cosines with; methods made for one have their own.
    classifier.COSINE_SCALE = IMAGE_COSINE_SCALE
    # Channels last in memory: faster convolutions, in bfloat16 on a CPU above all.
    classifier.CHANNELS_LAST = True
    # Classes without a training image: floor (count one image, warn) | error.
    classifier.EMPTY_CLASSES = "error"
    classifier.CALIBRATION = CfgNode()
    # Added to the log-probabilities of the K classes in evaluation and use; balms-seg calibrate
    # chooses them. Empty: nothing.
    classifier.CALIBRATION.OFFSETS = []
    # What the sums are divided by.
    classifier.CALIBRATION.TEMPERATURE = 1.0


def problems(cfg: CfgNode, *, of_images: bool) -> list[str]:
    """One line for each key to change; none for a detector."""
    from balms_seg.methods import METHODS
    from balms_seg.modeling.classifier_layer import IMAGE_COSINE_SCALE

    if not of_images:
        return []
    where, node = "MODEL.IMAGE_CLASSIFIER", cfg.MODEL.IMAGE_CLASSIFIER
    found = classifier_problems(
        node,
        where,
        node.METHOD,
        kind_key="CLASSIFIER",
        default_scale=IMAGE_COSINE_SCALE,
        init_classifier=cfg.MODEL.INIT_CLASSIFIER,
        initial_bias=cfg.MODEL.INITIAL_BIAS,
    )
    if node.METHOD not in METHODS:
        found.append(f"{where}.METHOD is {node.METHOD!r}; {expected_method(node.METHOD)}")
    return found + _backbone_problems(cfg)


def _backbone_problems(cfg: CfgNode) -> list[str]:
    from balms_seg.modeling.efficientnet_lite import LITE0_PIXEL_MEAN, LITE0_PIXEL_STD
    from balms_seg.modeling.image_backbones import (
        FEATURES,
        IMAGE_BACKBONES,
        OF_ANY_WIDTH,
        PRETRAINED,
    )

    settings, where = cfg.MODEL.IMAGE_CLASSIFIER, "MODEL.IMAGE_CLASSIFIER"
    allowed = {
        "BACKBONE": (*IMAGE_BACKBONES, FEATURES),
        "EMPTY_CLASSES": ("floor", "error"),
    }
    problems = outside(settings, where, allowed)
    problems += below(settings, where, {"NUM_CLASSES": 0, "NUM_FEATURES": 0, "WIDTH": 1})
    if not settings.CALIBRATION.TEMPERATURE > 0:
        problems.append(
            f"{where}.CALIBRATION.TEMPERATURE is {settings.CALIBRATION.TEMPERATURE}; expected a "
            "number above 0."
        )
    num_offsets = len(settings.CALIBRATION.OFFSETS)
    if num_offsets and settings.NUM_CLASSES and num_offsets != settings.NUM_CLASSES:
        problems.append(
            f"{where}.CALIBRATION.OFFSETS has {num_offsets} entries for {settings.NUM_CLASSES} "
            "classes; calibrate the model anew."
        )
    if settings.NUM_CLASSES == 1:
        problems.append(f"{where}.NUM_CLASSES is 1; expected at least 2, or 0 for the data's own.")
    if settings.WIDTH != 1 and settings.BACKBONE not in OF_ANY_WIDTH:
        problems.append(
            f"{where}.WIDTH is {settings.WIDTH}, which BACKBONE {settings.BACKBONE!r} does not "
            f"read; set it to 1 or take {', '.join(OF_ANY_WIDTH)}."
        )
    if settings.PRETRAINED and settings.BACKBONE not in PRETRAINED:
        problems.append(
            f"{where}.PRETRAINED is True, but there are no weights for BACKBONE "
            f"{settings.BACKBONE!r}; set it to False or take one of {', '.join(PRETRAINED)}."
        )
    is_lite = settings.PRETRAINED and settings.BACKBONE == "efficientnet_lite0"
    scaling = {"PIXEL_MEAN": LITE0_PIXEL_MEAN, "PIXEL_STD": LITE0_PIXEL_STD}
    for key, value in scaling.items() if is_lite else ():
        if list(cfg.MODEL[key]) != [value] * 3:
            problems.append(
                f"MODEL.{key} is {list(cfg.MODEL[key])}, but the weights of efficientnet_lite0 "
                f"are for {[value] * 3}; set it to that."
            )
    return problems
