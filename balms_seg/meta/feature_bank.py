"""The newest features of every class, from which balanced batches are drawn.

K: classes; class K is background. D: features. Sound as long as what computes the features is
frozen: a feature then does not age.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from balms_seg.device_copies import sent

logger = logging.getLogger(__name__)


class FeatureBank:
    """First in, first out, class by class; in half precision.

    All ranks hold the same bank as long as they add the same rows and draw with equal generators.
    """

    def __init__(
        self,
        num_classes: int,
        num_features: int,
        *,
        per_class: int = 32,
        background: int = 4096,
        max_memory_mb: float = 1024,
        device: torch.device | str = "cpu",
    ) -> None:
        """Take the memory.

        Args:
            num_classes: K.
            num_features: D.
            per_class: rows kept of each foreground class.
            background: rows kept of background.
            max_memory_mb: MiB that the features may take.
            device: where they lie.

        Raises:
            ValueError: they would take more.
        """
        self._capacity = torch.full((num_classes + 1,), per_class)
        self._capacity[-1] = background
        self._start = torch.cat([torch.zeros(1, dtype=torch.int64), self._capacity.cumsum(0)[:-1]])
        num_rows = num_classes * per_class + background
        memory_mb = num_rows * num_features * 2 / 2**20
        if memory_mb > max_memory_mb:
            raise ValueError(
                f"Expected a feature bank of at most META.BANK.MAX_MEMORY_MB {max_memory_mb:g} "
                f"MiB, but {num_classes} classes with META.BANK.PER_CLASS {per_class}, and "
                f"META.BANK.BACKGROUND {background} rows, of {num_features} features in half "
                f"precision take {memory_mb:.0f} MiB; change one of the three."
            )
        self._features = torch.zeros(num_rows, num_features, dtype=torch.float16, device=device)
        self._added = torch.zeros(num_classes + 1, dtype=torch.int64)  # ever, of each class
        logger.info(
            "Feature bank: %d rows for each of %d classes and %d of background, %d features, "
            "%.1f MiB on %s.",
            per_class,
            num_classes,
            background,
            num_features,
            memory_mb,
            self._features.device,
        )

    @property
    def sizes(self) -> Tensor:
        """(K + 1,) rows held of each class, background last."""
        return torch.minimum(self._added, self._capacity)

    def add(self, features: Tensor, classes: Tensor) -> None:
        """Take rows in, in their order; of each class the oldest leave.

        Args:
            features: (N, D).
            classes: (N,) int64 in [0, K].
        """
        classes = classes.cpu()
        order = torch.argsort(classes, stable=True)
        ordered = classes[order]
        counts = torch.bincount(classes, minlength=len(self._capacity))
        first = counts.cumsum(0) - counts
        place = torch.arange(len(ordered)) - first[ordered]  # among the new rows of its class
        stays = place >= (counts - self._capacity)[ordered]  # more may come than there is room
        order, ordered, place = order[stays], ordered[stays], place[stays]
        slots = self._start[ordered] + (self._added[ordered] + place) % self._capacity[ordered]
        device = self._features.device
        chosen = features.detach()[sent(order, features.device)]
        self._features[sent(slots, device)] = chosen.to(device, torch.float16)
        self._added += counts

    def draw(
        self, num_foreground: int, num_background: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw with replacement: a class uniformly out of those held, then one of its rows.

        Args:
            num_foreground: foreground rows; none where the bank holds none.
            num_background: background rows; likewise.
            generator: of the CPU.

        Returns:
            (M, D) float16 features on the bank's device and (M,) int64 classes on the CPU.
        """
        sizes = self.sizes
        held = sizes[:-1].nonzero().flatten()
        numbers = torch.rand(
            2 * num_foreground + num_background, dtype=torch.float64, generator=generator
        )
        of_class, of_row = numbers[:num_foreground], numbers[num_foreground:]
        foreground = held[(of_class * len(held)).long()] if len(held) else held
        background = torch.full((num_background if sizes[-1] else 0,), len(sizes) - 1)
        classes = torch.cat([foreground, background])
        of_row = torch.cat([of_row[: len(foreground)], of_row[num_foreground:][: len(background)]])
        slots = self._start[classes] + (of_row * sizes[classes]).long()
        return self._features[sent(slots, self._features.device)], classes

    def state_dict(self) -> dict[str, Any]:
        """The rows held, class by class, and how many were added."""
        return {
            "added": self._added.clone(),
            "capacity": self._capacity.clone(),
            "features": self._features[self._held_slots()].cpu(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: it is of a bank of other classes, features or capacity.
        """
        shapes = [(b["capacity"].tolist(), b["features"].shape[1]) for b in (state, self._shape())]
        if shapes[0] != shapes[1]:
            raise ValueError(
                "Expected a saved feature bank with this run's classes, features, "
                "META.BANK.PER_CLASS and META.BANK.BACKGROUND, but got another; resume with the "
                "saved run's configuration."
            )
        self._added = state["added"].clone()
        self._features.zero_()
        self._features[self._held_slots()] = state["features"].to(self._features)

    def _shape(self) -> dict[str, Tensor]:
        return {"capacity": self._capacity, "features": self._features}

    def _held_slots(self) -> Tensor:
        slots = torch.arange(len(self._features))
        place = slots - self._start.repeat_interleave(self._capacity)
        is_held = place < self.sizes.repeat_interleave(self._capacity)
        return slots[is_held].to(self._features.device)
