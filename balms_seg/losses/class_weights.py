"""Fixed class weights by training counts; their sum is the number of classes K."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from balms_seg.losses import _checks


def inverse_frequency_weights(counts: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weights in proportion to 1 / n_j.

    Args:
        counts: (K,) positive; only their ratios matter.
        dtype: of the result: that of the logits, for a loss of torch's; computed in float64.

    Returns:
        (K,) of sum K.

    Raises:
        ValueError: a count is not positive and finite.
    """
    return _normalised(_checked(counts).reciprocal()).to(dtype)


def effective_number_weights(
    counts: Tensor, *, beta: float = 0.9999, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Weights in proportion to (1 - beta) / (1 - beta^n_j), the inverse effective number.

    Args:
        counts: (K,) positive training samples per class.
        beta: in [0, 1); 0 weighs all classes the same, towards 1 the weights become those of
            `inverse_frequency_weights`.
        dtype: as there.

    Returns:
        (K,) of sum K.

    Raises:
        ValueError: `beta` is out of range, or a count is not positive and finite.

    Source: Cui et al. 2019 (arXiv 1901.05555); richardaecn/class-balanced-loss.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"Expected beta in [0, 1), but got {beta}.")
    counts = _checked(counts)
    if beta == 0:
        return torch.ones_like(counts, dtype=dtype)
    return _normalised(-1 / torch.expm1(counts * math.log(beta))).to(dtype)


def _checked(counts: Tensor) -> Tensor:
    _checks.check_class_vector(counts, name="counts", upper=math.inf)
    return counts.double()


def _normalised(weights: Tensor) -> Tensor:
    return weights * (len(weights) / weights.sum())
