"""A batch of whole images, as the loaders make it and the image classifier takes it.

B images; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from balms_seg.device_copies import sent
from balms_seg.sampling import Block


@dataclass(frozen=True, eq=False)
class ImageBatch(Sequence):
    """Images with labels; as a sequence, what the sampler knows of each of them.

    Attributes:
        images: (B, 3, H, W) uint8, or float32 in [0, 255], RGB; or (B, D) their features.
        labels: (B,) int64 in [0, K).
        positions: (B,) int64 stream positions; data set indices in evaluation. On the CPU.
        dataset_indices: (B,) int64 on the CPU.
        draw_probabilities: (B,) float64 on the CPU, nan where the sampler gives none.
        label_mix: (B,) second labels and (B,) shares of the first ones, of mixup and cutmix.
        keys: B identities of images, their paths within their set; empty in training.
    """

    images: Tensor
    labels: Tensor
    positions: Tensor
    dataset_indices: Tensor
    draw_probabilities: Tensor
    label_mix: tuple[Tensor, Tensor] | None = None
    keys: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]  # no slices
        """What is known of one image, under the names of the training loader's dicts."""
        entry = {
            "stream_position": int(self.positions[index]),
            "dataset_index": int(self.dataset_indices[index]),
        }
        probability = float(self.draw_probabilities[index])
        return entry if probability != probability else {**entry, "draw_probability": probability}

    def draws(self) -> Block:
        """The sampler's draws behind the batch, as `balms_seg.sampling.draws_of` takes them."""
        known = not bool(self.draw_probabilities.isnan().any())
        return Block(
            self.dataset_indices.numpy(),
            self.draw_probabilities.numpy() if known else None,
            self.positions.numpy(),
        )

    def first(self, count: int) -> ImageBatch:
        """The first images as a batch of their own."""
        mix = self.label_mix
        return replace(
            self,
            images=self.images[:count],
            labels=self.labels[:count],
            positions=self.positions[:count],
            dataset_indices=self.dataset_indices[:count],
            draw_probabilities=self.draw_probabilities[:count],
            label_mix=None if mix is None else (mix[0][:count], mix[1][:count]),
            keys=self.keys[:count],
        )

    def to(self, device: torch.device | str) -> ImageBatch:
        """The same batch with images and labels on a device."""
        mix = self.label_mix
        return replace(
            self,
            images=sent(self.images, device),
            labels=sent(self.labels, device),
            label_mix=None if mix is None else (sent(mix[0], device), sent(mix[1], device)),
        )
