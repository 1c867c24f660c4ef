"""Augmentation of whole batches of small images, each keyed by its stream position.

B images of H x W px; uint8 in and out. An image's random numbers are a function of (seed, stream
position), whatever batch it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from balms_seg.sampling import keyed_uniforms


class BatchTransform(Protocol):
    """A random transform of images.

    Attributes:
        name: keys its random numbers.
        num_uniforms: uniform numbers that it needs for each image.
    """

    name: str
    num_uniforms: int

    def __call__(self, images: Tensor, uniforms: np.ndarray) -> Tensor:
        """(B, 3, H, W) uint8 and (B, num_uniforms) in [0, 1) to new images."""


class CropAndFlip:
    """A random crop of the image padded with black, mirrored half of the time."""

    name, num_uniforms = "crop and flip", 3

    def __init__(self, padding: int, *, flip: bool = True) -> None:
        """Pad by so many px on each side."""
        self.padding, self.flip = padding, flip

    def __call__(self, images: Tensor, uniforms: np.ndarray) -> Tensor:
        """See the class."""
        num_images, _, height, width = images.shape
        padded = torch.nn.functional.pad(images, [self.padding] * 4)
        top, left = (np.floor(uniforms[:, :2] * (2 * self.padding + 1))).astype(np.int64).T
        mirrored = (uniforms[:, 2] < 0.5) & self.flip
        rows = top[:, None] + np.arange(height)
        columns = (
            np.where(mirrored[:, None], np.arange(width)[::-1], np.arange(width)) + left[:, None]
        )
        # One gather: position of each output pixel within its padded image.
        places = rows[:, :, None] * padded.shape[-1] + columns[:, None, :]
        index = torch.from_numpy(places.reshape(num_images, 1, -1)).to(images.device)
        flat = padded.flatten(start_dim=2)
        return flat.gather(2, index.expand(-1, flat.shape[1], -1)).view_as(images)


class BatchAugmentation:
    """Transforms one after the other."""

    def __init__(self, transforms: Sequence[BatchTransform]) -> None:
        """Names must differ, so that no two share their random numbers."""
        names = [transform.name for transform in transforms]
        assert len(set(names)) == len(names)
        self.transforms = list(transforms)

    def __call__(self, images: Tensor, seed: int, positions: np.ndarray) -> Tensor:
        """(B, 3, H, W) uint8 images at (B,) stream positions to new ones."""
        for transform in self.transforms:
            uniforms = keyed_uniforms(seed, positions, transform.name, transform.num_uniforms)
            images = transform(images, uniforms)
        return images
