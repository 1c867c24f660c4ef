"""Post-hoc calibration of an image classifier's probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ImageCalibration(nn.Module):
    """softmax((log p + offsets) / temperature) of (B, K) probabilities p.

    With offsets -tau log n this is post-hoc logit adjustment, whatever the classifier's method.

    Source: Menon et al. 2021 (arXiv 2007.07314); the temperature from Guo et al. 2017 (arXiv
    1706.04599).
    """

    offsets: Tensor

    def __init__(self, offsets: Sequence[float] = (), temperature: float = 1.0) -> None:
        """Take the constants.

        Args:
            offsets: K numbers; empty for zeros.
            temperature: above 0; a larger one makes probabilities more alike.
        """
        super().__init__()
        given = torch.tensor(list(offsets) or 0.0, dtype=torch.float32)
        self.register_buffer("offsets", given, persistent=False)
        self.temperature = float(temperature)
        self.is_identity = not len(offsets) and temperature == 1

    def forward(self, probabilities: Tensor) -> Tensor:
        """(B, K) calibrated probabilities; the given ones where nothing was set."""
        if self.is_identity:
            return probabilities
        smallest = torch.finfo(probabilities.dtype).tiny
        logits = probabilities.clamp(min=smallest).log() + self.offsets
        return (logits / self.temperature).softmax(dim=1)
