"""Which keys of an image classifier's data, input and backbone contradict each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.job import IMAGE_CLASSIFIER, classifies_images

if TYPE_CHECKING:
    from detectron2.config import CfgNode

UNREADABLE = ("stop", "skip")
DEVICES = ("", "cpu", "cuda")


def image_input_problems(cfg: CfgNode) -> list[str]:
    """Values that mean nothing or contradict others; none for a detector.

    Args:
        cfg: a resolved configuration with this package's keys.

    Returns:
        A sentence for each, which names the key to change.
    """
    problems = [
        f"DATASETS.REGISTER_IMAGES holds {entry!r}; each entry is [name, source, root]."
        for entry in cfg.DATASETS.REGISTER_IMAGES
        if len(entry) != 3 or not all(isinstance(part, str) for part in entry)
    ]
    names = list(cfg.DATASETS.CLASSES)
    if len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        problems.append(
            f"DATASETS.CLASSES is {names}; expected different names, numbers among them in quotes."
        )
    if not classifies_images(cfg):
        return problems
    return problems + _backbone_problems(cfg) + _input_problems(cfg)


def _backbone_problems(cfg: CfgNode) -> list[str]:
    from balms_seg.modeling.image_backbones import IMAGE_BACKBONES, OF_ANY_WIDTH, PRETRAINED

    settings, where = cfg.MODEL.IMAGE_CLASSIFIER, "MODEL.IMAGE_CLASSIFIER"
    allowed = {
        "BACKBONE": tuple(IMAGE_BACKBONES),
        "EMPTY_CLASSES": ("floor", "error"),
    }
    problems = _outside(settings, where, allowed)
    problems += _below(settings, where, {"NUM_CLASSES": 0, "WIDTH": 1})
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
    needs_linear = cfg.MODEL.INIT_CLASSIFIER in ("lws", "tau_norm")
    if settings.CLASSIFIER == "cosine" and needs_linear:
        problems.append(
            f"MODEL.INIT_CLASSIFIER is {cfg.MODEL.INIT_CLASSIFIER!r}, which needs a linear "
            f"classifier; set {where}.CLASSIFIER to linear."
        )
    return problems


def _input_problems(cfg: CfgNode) -> list[str]:
    from balms_seg.data.images.image_augmentation import (
        AUGMENTATIONS_IN_MEMORY,
        AUGMENTATIONS_IN_WORKERS,
    )

    options, where = cfg.INPUT.IMAGES, "INPUT.IMAGES"
    problems = _outside(options, where, {"UNREADABLE": UNREADABLE, "MEMORY_DEVICE": DEVICES})
    lowest = {"SIZE": 8, "PADDING": 0, "CUTOUT": 1, "MIXUP": 0, "CUTMIX": 0}
    problems += _below(options, where, lowest)
    if cfg.TEST.IMAGES_PER_BATCH < 1:
        problems.append(
            f"TEST.IMAGES_PER_BATCH is {cfg.TEST.IMAGES_PER_BATCH}; expected at least 1."
        )
    known = AUGMENTATIONS_IN_MEMORY if options.IN_MEMORY else AUGMENTATIONS_IN_WORKERS
    names = list(options.AUGMENTATIONS)
    if not set(names) <= set(known) or len(set(names)) < len(names):
        problems.append(
            f"{where}.AUGMENTATIONS is {names}; with IN_MEMORY {options.IN_MEMORY} expected "
            f"different ones out of {', '.join(known)}."
        )
    operations = options.RANDAUGMENT
    if len(operations) != 2 or operations[0] < 0 or not 0 <= operations[1] <= 30:
        problems.append(
            f"{where}.RANDAUGMENT is {operations}; expected a number of operations and a level "
            "from 0 to 30."
        )
    trained = list(cfg.MODEL.TRAIN_ONLY)
    is_decoupled = bool(trained) and all(name.startswith(IMAGE_CLASSIFIER) for name in trained)
    if is_decoupled and (options.MIXUP > 0 or options.CUTMIX > 0):
        problems.append(
            f"{where}.MIXUP is {options.MIXUP:g} and CUTMIX {options.CUTMIX:g}, but "
            f"MODEL.TRAIN_ONLY {trained} trains the classifier alone, on one label an image; set "
            "both to 0."
        )
    return problems


def _outside(node: CfgNode, where: str, allowed: dict[str, tuple[str, ...]]) -> list[str]:
    return [
        f"{where}.{key} is {node[key]!r}; expected one of {', '.join(map(repr, values))}."
        for key, values in allowed.items()
        if node[key] not in values
    ]


def _below(node: CfgNode, where: str, lowest: dict[str, int]) -> list[str]:
    return [
        f"{where}.{key} is {node[key]}; expected at least {least}."
        for key, least in lowest.items()
        if node[key] < least
    ]
