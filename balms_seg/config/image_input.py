"""What the image classifier sees: sizes, augmentations, where images are decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.config.values import below, outside
from balms_seg.job import IMAGE_CLASSIFIER

if TYPE_CHECKING:
    from detectron2.config import CfgNode

UNREADABLE = ("stop", "skip")
DEVICES = ("", "cpu", "cuda")


def add_keys(cfg: CfgNode) -> None:
    """Declare the INPUT.IMAGES keys."""
    from detectron2.config import CfgNode

    images = cfg.INPUT.IMAGES = CfgNode()
    # Height and width of the images that the image classifier gets, in px.
    images.SIZE = 32
    # Decode all images before training, for sets of small images of one size; else data workers
    # decode, crop and resize them.
    images.IN_MEMORY = True
    # Where images in memory lie and are augmented: cpu | cuda. Empty: the model's device.
    images.MEMORY_DEVICE = ""
    # Augmentation in training, in this order: crop_flip, autoaugment, randaugment, cutout, and
    # color_jitter for images that data workers decode (whose crop is of random size).
    images.AUGMENTATIONS = ["crop_flip"]
    # Black border before the random crop of images in memory, in px.
    images.PADDING = 4
    # Side of the square that cutout blackens, in px.
    images.CUTOUT = 16
    # Operations that randaugment applies to an image, and their level from 0 to 30.
    images.RANDAUGMENT = (2, 9)
    # alpha of mixup; 0: off.
    images.MIXUP = 0.0
    # alpha of cutmix; 0: off. With mixup on as well, each image gets either with equal chance.
    images.CUTMIX = 0.0
    # A training image that cannot be decoded: stop | skip (another takes its place, and a warning).
    images.UNREADABLE = "stop"
    # Images of a batch in evaluation.
    cfg.TEST.IMAGES_PER_BATCH = 500


def problems(cfg: CfgNode, *, of_images: bool) -> list[str]:
    """Values that mean nothing or contradict others; none for a detector."""
    if not of_images:
        return []
    from balms_seg.data.images.image_augmentation import (
        AUGMENTATIONS_IN_MEMORY,
        AUGMENTATIONS_IN_WORKERS,
    )
    from balms_seg.modeling.image_backbones import FEATURES

    options, where = cfg.INPUT.IMAGES, "INPUT.IMAGES"
    found = outside(options, where, {"UNREADABLE": UNREADABLE, "MEMORY_DEVICE": DEVICES})
    lowest = {"SIZE": 8, "PADDING": 0, "CUTOUT": 1, "MIXUP": 0, "CUTMIX": 0}
    found += below(options, where, lowest)
    if cfg.TEST.IMAGES_PER_BATCH < 1:
        found.append(f"TEST.IMAGES_PER_BATCH is {cfg.TEST.IMAGES_PER_BATCH}; expected at least 1.")
    known = AUGMENTATIONS_IN_MEMORY if options.IN_MEMORY else AUGMENTATIONS_IN_WORKERS
    names = list(options.AUGMENTATIONS)
    if not set(names) <= set(known) or len(set(names)) < len(names):
        found.append(
            f"{where}.AUGMENTATIONS is {names}; with IN_MEMORY {options.IN_MEMORY} expected "
            f"different ones out of {', '.join(known)}."
        )
    operations = options.RANDAUGMENT
    if len(operations) != 2 or operations[0] < 0 or not 0 <= operations[1] <= 30:
        found.append(
            f"{where}.RANDAUGMENT is {operations}; expected a number of operations and a level "
            "from 0 to 30."
        )
    trained = list(cfg.MODEL.TRAIN_ONLY)
    is_decoupled = bool(trained) and all(name.startswith(IMAGE_CLASSIFIER) for name in trained)
    is_decoupled |= cfg.MODEL.IMAGE_CLASSIFIER.BACKBONE == FEATURES
    if is_decoupled and (options.MIXUP > 0 or options.CUTMIX > 0):
        found.append(
            f"{where}.MIXUP is {options.MIXUP:g} and CUTMIX {options.CUTMIX:g}, but "
            f"the classifier trains alone (MODEL.TRAIN_ONLY {trained}, BACKBONE "
            f"{cfg.MODEL.IMAGE_CLASSIFIER.BACKBONE}), on one label an image; set both to 0."
        )
    return found
