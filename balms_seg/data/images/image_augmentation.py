"""From `INPUT.IMAGES` to augmentation: of batches in memory, or image by image in data workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from balms_seg.data.images.batch_augmentation import (
    AutoAugment,
    BatchAugmentation,
    BatchTransform,
    CropAndFlip,
    Cutout,
    RandAugment,
)
from balms_seg.data.images.image_files import read_image, unreadable_remedy

_IN_MEMORY: dict[str, Callable[[Any], BatchTransform]] = {
    "crop_flip": lambda options: CropAndFlip(options.PADDING),
    "autoaugment": lambda options: AutoAugment(),
    "randaugment": lambda options: RandAugment(*options.RANDAUGMENT),
    "cutout": lambda options: Cutout(options.CUTOUT),
}
AUGMENTATIONS_IN_MEMORY = tuple(_IN_MEMORY)
# Those of torchvision, for images that data workers decode.
AUGMENTATIONS_IN_WORKERS = ("crop_flip", "color_jitter", "autoaugment", "randaugment", "cutout")
_CENTER_SHARE = 256 / 224  # of the shorter side before the central crop, over the crop's


def build_batch_augmentation(cfg: Any) -> BatchAugmentation:
    """What `INPUT.IMAGES.AUGMENTATIONS` names, in its order, for images in memory."""
    options = cfg.INPUT.IMAGES
    return BatchAugmentation([_IN_MEMORY[name](options) for name in options.AUGMENTATIONS])


class ImageMapper:
    """Decodes, augments and crops the image of a record; runs in data workers.

    Random numbers come from torch's and Python's global generators.
    """

    def __init__(self, cfg: Any, *, training: bool) -> None:
        """Read `INPUT.IMAGES`.

        Args:
            cfg: a checked configuration.
            training: random crop and augmentations; else the central crop.
        """
        from torchvision.transforms import v2

        options = cfg.INPUT.IMAGES
        self._skips = training and options.UNREADABLE == "skip"
        self._pixel_range = tuple(cfg.INPUT.PIXEL_RANGE)
        self.size = int(options.SIZE)
        self._remedy = unreadable_remedy(training=training)
        if not training:
            self._transform = _test_transform(v2, options)
            return
        steps: list[Any] = []
        if "crop_flip" not in options.AUGMENTATIONS:
            steps = [v2.Resize((options.SIZE, options.SIZE), antialias=True)]
        for name in options.AUGMENTATIONS:
            steps += _worker_transforms(v2, name, options)
        self._transform = v2.Compose(steps)

    def __call__(self, record: dict[str, Any]) -> dict[str, Any] | None:
        """The record with "image", (3, SIZE, SIZE) uint8; None for one to be skipped."""
        try:
            pixels = read_image(record["file_name"], pixel_range=self._pixel_range)
        except FileNotFoundError:
            raise
        except OSError as error:
            if self._skips:
                return None
            raise OSError(f"{str(error).rstrip('.')}; {self._remedy}") from error
        return {"image": self.transform(pixels), "label": record["label"]}

    def transform(self, pixels: np.ndarray) -> Tensor:
        """(3, SIZE, SIZE) uint8 of an (H, W, 3) uint8 image."""
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        return self._transform(image).contiguous()


def _test_transform(v2: Any, options: Any) -> Any:
    """What an image goes through in evaluation."""
    if options.IN_MEMORY:  # where images have that size already
        return v2.Resize((options.SIZE, options.SIZE), antialias=True)
    resize = v2.Resize(round(options.SIZE * _CENTER_SHARE), antialias=True)
    return v2.Compose([resize, v2.CenterCrop(options.SIZE)])


def _worker_transforms(v2: Any, name: str, options: Any) -> list[Any]:
    """Torchvision's transforms of a name."""
    if name == "crop_flip":
        return [v2.RandomResizedCrop(options.SIZE, antialias=True), v2.RandomHorizontalFlip()]
    if name == "color_jitter":
        return [v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0)]
    if name == "autoaugment":
        return [v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET)]
    if name == "randaugment":
        return [v2.RandAugment(*options.RANDAUGMENT)]
    assert name == "cutout"
    area = (options.CUTOUT / options.SIZE) ** 2
    return [v2.RandomErasing(p=1.0, scale=(area, area), ratio=(1.0, 1.0))]
