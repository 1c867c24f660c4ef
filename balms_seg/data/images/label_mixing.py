"""Mixup and cutmix of a batch: images of two labels.

B images of H x W px. Every image is mixed with the one before it in this rank's batch, by a share
keyed by its stream position.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from balms_seg.image_batch import ImageBatch
from balms_seg.sampling import keyed_uniforms


class LabelMixing:
    """Mixes each image by mixup or, where both are on, half of them by cutmix.

    Source: Zhang et al. 2018 (arXiv 1710.09412), Yun et al. 2019 (arXiv 1905.04899).
    """

    def __init__(self, *, mixup: float = 0.0, cutmix: float = 0.0) -> None:
        """Parameters alpha of the Beta distributions that shares are drawn from; 0: off."""
        self._quantiles = {
            name: beta_quantiles(alpha)
            for name, alpha in (("mixup", mixup), ("cutmix", cutmix))
            if alpha > 0
        }

    def __call__(self, batch: ImageBatch, seed: int) -> ImageBatch:
        """A batch of float32 images with `label_mix`; the batch itself where both are off."""
        if not self._quantiles:
            return batch
        uniforms = keyed_uniforms(seed, batch.positions.numpy(), "mixing", 4)
        grid = np.linspace(0, 1, len(next(iter(self._quantiles.values()))))
        shares = {name: np.interp(uniforms[:, 0], grid, q) for name, q in self._quantiles.items()}
        cuts = np.full(len(batch), "cutmix" in shares)
        if len(shares) == 2:
            cuts = uniforms[:, 1] < 0.5
        height, width = batch.images.shape[-2:]
        own = np.ones((len(batch), height, width), np.float32)  # share of each pixel
        if "mixup" in shares:
            own[~cuts] = shares["mixup"][~cuts, None, None]
        if "cutmix" in shares:
            boxes = _boxes(shares["cutmix"], uniforms[:, 2:], height, width)
            own[cuts] = np.where(boxes[cuts], 0, 1)
        weights = torch.from_numpy(own).to(batch.images.device)
        images = batch.images.float()
        mixed = weights[:, None] * images + (1 - weights[:, None]) * images.roll(1, dims=0)
        # The share of the pixels, which for cut boxes differs from the one drawn.
        label_mix = (batch.labels.roll(1), weights.mean(dim=(1, 2)))
        return replace(batch, images=mixed, label_mix=label_mix)


def beta_quantiles(alpha: float, size: int = 4097) -> np.ndarray:
    """(size,) quantiles of Beta(alpha, alpha) at equally spaced probabilities from 0 to 1."""
    # By symmetry up to 1/2; v = x ** alpha takes the density's pole at 0 away.
    v = np.linspace(0, 0.5**alpha, 8 * size)
    density = (1 - v ** (1 / alpha)) ** (alpha - 1)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    probability = mass / mass[-1] / 2
    half = np.interp(np.linspace(0, 0.5, size // 2 + 1), probability, v) ** (1 / alpha)
    return np.concatenate([half, 1 - half[-2::-1]])


def _boxes(shares: np.ndarray, places: np.ndarray, height: int, width: int) -> np.ndarray:
    """(B, H, W) bool: boxes of 1 - share of the area about random places, cut at the border."""
    side = np.sqrt(1 - shares)[:, None]
    inside = []
    for axis, length in enumerate((height, width)):
        center = np.floor(places[:, axis : axis + 1] * length)
        start = np.maximum(center - np.floor(side * length) // 2, 0)
        end = np.minimum(center + np.floor(side * length) // 2, length)
        line = np.arange(length)
        inside.append((line >= start) & (line < end))
    return inside[0][:, :, None] & inside[1][:, None, :]
