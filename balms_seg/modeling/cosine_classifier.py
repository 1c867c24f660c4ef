"""A classifier of cosines: features and class weights are normalised."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CosineClassifier(nn.Module):
    """Logits s cos(w_j, x), without bias.

    Source: the classifier of LDAM (Cao et al. 2019, arXiv 1906.07413).
    """

    bias = None
    initial_std = 1.0  # any gives the same directions, but short vectors turn faster

    def __init__(self, in_features: int, out_features: int, *, scale: float) -> None:
        """Directions are drawn uniformly.

        Args:
            in_features: D.
            out_features: C.
            scale: s.
        """
        super().__init__()
        self.in_features, self.out_features, self.scale = in_features, out_features, scale
        self.weight = nn.Parameter(torch.randn(out_features, in_features))

    def forward(self, features: Tensor) -> Tensor:
        """(R, D) to (R, C), in float32 also under autocast."""
        with torch.autocast(features.device.type, enabled=False):
            cosines = F.linear(
                F.normalize(features.float(), dim=1), F.normalize(self.weight.float(), dim=1)
            )
        return self.scale * cosines
