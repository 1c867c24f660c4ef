"""A fixed classifier with learned scales: what `MODEL.INIT_CLASSIFIER: lws` trains.

C: columns of the classifier; D: features.

Source: Kang et al. 2020 (arXiv 1910.09217), learnable weight scaling; what background gets is ours.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ScaledLinear(nn.Module):
    """A fixed linear layer whose outputs have one learned scale each: s_j (w_j x + b_j).

    Background's column, where there is one, has a scale like the others. The scales start at 1,
    where the layer equals the one it was made from; its checkpoints add `scale` to that one's.
    """

    def __init__(self, linear: Any) -> None:
        """Take over a layer's parameters.

        Args:
            linear: with a bias; its parameters are frozen.
        """
        super().__init__()
        self.weight = linear.weight.requires_grad_(False)
        self.bias = linear.bias.requires_grad_(False)
        self.scale = nn.Parameter(torch.ones_like(linear.bias))

    @property
    def in_features(self) -> int:
        """D."""
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        """C."""
        return self.weight.shape[0]

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) to (N, C)."""
        return self.scale * F.linear(features, self.weight, self.bias)
