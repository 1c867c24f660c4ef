"""Cosines are of float32, whatever runs around them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from balms_seg.modeling.cosine_classifier import CosineClassifier


def test_cosines_are_computed_in_float32_also_under_autocast() -> None:
    torch.manual_seed(0)
    layer = CosineClassifier(64, 5, scale=30.0)
    features = torch.randn(7, 64)
    expected = 30 * F.cosine_similarity(
        features.double()[:, None], layer.weight.detach().double()[None], dim=2
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = layer(features)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), expected, rtol=0, atol=2e-5)  # bfloat16: 0.1
    halves = layer(features.bfloat16())
    assert halves.dtype == torch.float32
    exact = 30 * F.cosine_similarity(
        features.bfloat16().double()[:, None], layer.weight.detach().double()[None], dim=2
    )
    torch.testing.assert_close(halves.double(), exact, rtol=0, atol=2e-5)
