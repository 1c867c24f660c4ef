"""Loss weights by class, normalised to mean 1 over the foreground rows, and their derivative.

N: rows, K: classes; target K is background. With s = sigmoid(psi), S the sum of s over the
foreground rows and n their number, foreground row i of class c has weight w_i = s_c n / S, and
background rows have weight 1. For g_i = dL / dw_i,

    dL / dpsi_c = s_c (1 - s_c) (n / S) sum_{i of class c} (g_i - mean over foreground of g w)

where the mean is what the normaliser adds. S, n and the mean run over the rows of all ranks
("global"), or over each rank's own rows ("rank", as the authors' release).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.meta.gradient import Sum

NORMALISE = ("global", "rank")


@dataclass(frozen=True, eq=False)
class RowWeights:
    """Weights of one training batch.

    Attributes:
        weights: (N,) constants: psi's gradient is `psi_gradient`, not autograd.
        targets: (N,) int64 in [0, K].
        scale: () n / S.
        count: () foreground rows n.
    """

    weights: Tensor
    targets: Tensor
    scale: Tensor
    count: Tensor


@torch.no_grad()
def class_weights(psi: Tensor, targets: Tensor, sum_over_ranks: Sum | None = None) -> RowWeights:
    """Weigh the rows of a batch.

    Args:
        psi: (K,).
        targets: (N,) int64 in [0, K]; K is background.
        sum_over_ranks: called once with a (2,) tensor; None normalises over these rows alone.

    Returns:
        Weights of mean 1 over the foreground rows; background rows have 1.
    """
    rates = F.pad(torch.sigmoid(psi), (0, 1))[targets]
    is_foreground = targets < len(psi)
    totals = torch.stack([rates.sum(), is_foreground.sum().to(rates)])
    total, count = totals if sum_over_ranks is None else sum_over_ranks(totals)
    scale = torch.where(count > 0, count / total, torch.ones_like(total))
    weights = torch.where(is_foreground, rates * scale, torch.ones_like(rates))
    return RowWeights(weights, targets, scale, count)


@torch.no_grad()
def sum_by_class(sample_gradient: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """(N,) derivatives to (K, 2): their sum over the rows of each class, and the rows' number."""
    pairs = torch.stack([sample_gradient, torch.ones_like(sample_gradient)], dim=1)
    return pairs.new_zeros(num_classes + 1, 2).index_add_(0, targets, pairs)[:-1]


@torch.no_grad()
def psi_gradient(psi: Tensor, class_sums: Tensor, scale: Tensor, count: Tensor) -> Tensor:
    """Derivative of a loss by psi, through the weights and their normaliser.

    Args:
        psi: (K,).
        class_sums: (K, 2) of `sum_by_class`, over the rows that the normaliser ran over.
        scale: n / S of `class_weights`.
        count: n of `class_weights`.

    Returns:
        (K,); 0 for classes without a row.
    """
    rates = torch.sigmoid(psi)
    gradients, rows = class_sums.unbind(dim=1)
    mean = scale * (gradients * rates).sum() / count.clamp(min=1)
    gradient = rates * (1 - rates) * scale * (gradients - rows * mean)
    return torch.where(rows > 0, gradient, torch.zeros_like(gradient))
