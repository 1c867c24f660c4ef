"""The half-precision type that a run asks for."""

from __future__ import annotations

import pytest
import torch
from made_up_data import small_config

from balms_seg.engine.mixed_precision import autocast, half_precision


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [
        ("cuda", "float16", torch.float16),
        ("cuda:1", "bfloat16", torch.bfloat16),
        ("cpu", "float16", torch.bfloat16),
    ],
)
def test_the_chosen_type_holds_on_cuda_and_bfloat16_elsewhere(
    device: str, dtype: str, expected: torch.dtype
) -> None:
    cfg = small_config({"MODEL.DEVICE": device, "SOLVER.AMP.DTYPE": dtype})
    assert half_precision(cfg) is None
    cfg.SOLVER.AMP.ENABLED = True
    assert half_precision(cfg) == expected


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_without_a_type_autocast_changes_nothing(dtype: torch.dtype | None) -> None:
    with autocast("cpu", dtype):
        product = torch.ones(1, 1) @ torch.ones(1, 1)
    assert product.dtype == (dtype or torch.float32)
