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

from balms_seg.data.images.pixel_operations import OPERATIONS, gather_pixels
from balms_seg.device_copies import sent
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

    def __init__(self, padding: int) -> None:
        """Pad by so many px on each side."""
        self.padding = padding

    def __call__(self, images: Tensor, uniforms: np.ndarray) -> Tensor:
        """See the class."""
        height, width = images.shape[-2:]
        offsets = np.floor(uniforms[:, :2] * (2 * self.padding + 1)).astype(np.int64) - self.padding
        is_mirrored = uniforms[:, 2:] < 0.5
        columns = np.where(is_mirrored, np.arange(width)[::-1], np.arange(width)) + offsets[:, 1:]
        rows = np.arange(height) + offsets[:, :1]
        device = images.device
        return gather_pixels(
            images,
            sent(torch.from_numpy(rows), device)[:, :, None],
            sent(torch.from_numpy(columns), device)[:, None, :],
        )


class Cutout:
    """A black square about a random pixel, cut off at the border.

    Source: DeVries and Taylor 2017 (arXiv 1708.04552).
    """

    name, num_uniforms = "cutout", 2

    def __init__(self, size: int) -> None:
        """Side of the square in px."""
        self.size = size

    def __call__(self, images: Tensor, uniforms: np.ndarray) -> Tensor:
        """See the class."""
        keep = []
        for axis, length in enumerate(images.shape[-2:]):
            start = np.floor(uniforms[:, axis : axis + 1] * length) - self.size // 2
            place = np.arange(length) - start
            is_kept = torch.from_numpy((place < 0) | (place >= self.size))
            keep.append(sent(is_kept, images.device))
        return images * (keep[0][:, :, None] | keep[1][:, None, :])[:, None]


class AutoAugment:
    """One of the 25 sub-policies found for CIFAR-10 for each image; the table is torchvision's.

    Source: Cubuk et al. 2019 (arXiv 1805.09501).
    """

    name, num_uniforms = "autoaugment", 5

    def __init__(self) -> None:
        """Take the table."""
        from torchvision.transforms import v2

        theirs = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)
        self._policies, self._space = theirs._policies, theirs._AUGMENTATION_SPACE

    def __call__(self, images: Tensor, uniforms: np.ndarray) -> Tensor:
        """See the class."""
        chosen = (uniforms[:, 0] * len(self._policies)).astype(np.int64)
        for place in (0, 1):
            own = uniforms[:, 1 + 2 * place : 3 + 2 * place]
            todo: list[tuple[str, int | None]] = []
            for policy, uniform in zip(chosen.tolist(), own[:, 0].tolist(), strict=True):
                operation, probability, level = self._policies[policy][place]
                todo.append((operation, level) if uniform < probability else ("Identity", None))
            images = _apply(images, todo, own[:, 1] < 0.5, self._space, num_levels=10)
        return images


class RandAugment:
    """So many operations for each image, drawn uniformly, all at one level.

    Source: Cubuk et al. 2020 (arXiv 1909.13719).
    """

    name = "randaugment"
    num_levels = 31

    def __init__(self, num_operations: int, level: int) -> None:
        """Operations an image, and their level out of 31 (0 to 30)."""
        from torchvision.transforms import v2

        self._space = v2.RandAugment(num_operations, level)._AUGMENTATION_SPACE
        self._level, self.num_uniforms = level, 2 * num_operations

    def __call__(self, images: Tensor, uniforms: np.ndarray) -> Tensor:
        """See the class."""
        names = list(self._space)
        for first in range(0, self.num_uniforms, 2):
            chosen = (uniforms[:, first] * len(names)).astype(np.int64)
            todo = [(names[index], self._level) for index in chosen.tolist()]
            is_negative = uniforms[:, first + 1] < 0.5
            images = _apply(images, todo, is_negative, self._space, num_levels=self.num_levels)
        return images


def _apply(
    images: Tensor,
    todo: Sequence[tuple[str, int | None]],
    is_negative: np.ndarray,
    space: dict,
    *,
    num_levels: int,
) -> Tensor:
    """One operation for each image: name and level, the sign of what has one."""
    height, width = images.shape[-2:]
    levels: dict[str, list[float]] = {"Identity": []}
    groups: dict[str, tuple[list[int], list[float]]] = {}
    for index, (name, level) in enumerate(todo):
        if name == "Identity":
            continue
        values, signed = space[name]
        if name not in levels:
            table = values(num_levels, height, width)
            levels[name] = [] if table is None else table.tolist()
        magnitude = levels[name][level] if levels[name] and level is not None else 0.0
        sign = -1 if signed and is_negative[index] else 1
        group = groups.setdefault(name, ([], []))
        group[0].append(index)
        group[1].append(sign * magnitude)
    images = images.clone()
    for name, (indices, magnitudes) in groups.items():
        own = sent(torch.tensor(indices), images.device)
        strengths = sent(torch.tensor(magnitudes), images.device)
        images[own] = OPERATIONS[name](images[own], strengths)
    return images


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
