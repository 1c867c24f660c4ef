"""From `INPUT.IMAGES` to the augmentation of images held in memory."""

from __future__ import annotations

from typing import Any

from balms_seg.data.batch_augmentation import BatchAugmentation, BatchTransform, CropAndFlip

AUGMENTATIONS = ("crop_flip",)


def build_batch_augmentation(cfg: Any) -> BatchAugmentation:
    """What `INPUT.IMAGES.AUGMENTATIONS` names, in its order."""
    options = cfg.INPUT.IMAGES
    return BatchAugmentation([_transform(name, options) for name in options.AUGMENTATIONS])


def _transform(name: str, options: Any) -> BatchTransform:
    assert name == "crop_flip"
    return CropAndFlip(options.PADDING)
