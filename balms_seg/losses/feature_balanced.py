"""Feature-Balanced Loss: rare classes are taught with a margin that small features enlarge."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import _checks

_EPSILON = 1e-12  # as released, added to the features' norm


def relative_rarity(counts: Tensor) -> Tensor:
    """(K,) s_j = (log n_max - log n_j) / (log n_max - log n_min), in [0, 1]; 0 where all are equal.

    Args:
        counts: (K,) positive.
    """
    distance = counts.max().log() - counts.log()
    return distance / distance.max().clamp(min=torch.finfo(distance.dtype).tiny)


def feature_balanced_loss(
    logits: Tensor,
    targets: Tensor,
    counts: Tensor,
    features: Tensor,
    *,
    strength: float,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy on z_j - strength s_j / ||f||, s_j the relative rarity of class j.

    The norm has a gradient: features of rare classes learn to be longer. Test time takes the plain
    softmax of z. Cross-entropy at strength 0 and at uniform counts.

    Args:
        logits: (N, K) unnormalised scores; half precision is computed in float32.
        targets: (N,) int64 in [0, K).
        counts: (K,) positive training samples per class; only their ratios matter.
        features: (N, D) the classifier's input.
        strength: alpha(e) lambda in the source.
        reduction: "none" gives (N,); "mean" and "sum" give a scalar, 0 where N = 0.

    Returns:
        Loss in nats, in float32 or wider.

    Raises:
        ValueError: shapes disagree, `counts` are not positive and finite, a target is out of range
            (on the CPU), or `reduction` is unknown.
        TypeError: logits are not floating-point or targets not int64.

    Source: Li et al. 2022 (arXiv 2305.10772); juyongjiang/FBL: loss.py. Uniform counts, which
    divide 0 by 0 there, are ours.
    """
    _checks.check_reduction(reduction)
    _checks.check_logits_and_targets(logits, targets)
    _checks.check_class_vector(counts, name="counts", num_classes=logits.shape[1], upper=math.inf)
    _checks.require_tensors(features=features)
    if features.dim() != 2 or len(features) != len(logits):
        raise ValueError(
            f"Expected features of shape ({len(logits)}, D), one for each row of logits, but got "
            f"{tuple(features.shape)}."
        )
    logits = _checks.widen(logits)
    norms = torch.linalg.vector_norm(_checks.widen(features), dim=1, keepdim=True)
    rarity = relative_rarity(_checks.widen_with(counts, logits)).to(logits)
    shifted = logits - strength * rarity / (norms.to(logits) + _EPSILON)
    return _checks.reduce_loss(F.cross_entropy(shifted, targets, reduction="none"), reduction)
