"""Residuals in closed form against autograd of the losses they belong to."""

from __future__ import annotations

from collections.abc import Callable

import closed_form_residuals as residuals_of
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg import losses

K = 4
COUNTS = torch.tensor([500.0, 40.0, 3.0, 1.0])
FREQUENCY = torch.tensor([0.6, 0.1, 0.01, 1e-5])

Function = Callable[..., Tensor]


def with_background(form: str, count: float | None = None) -> tuple[Function, Function]:
    options = {"background": form, "background_count": count}
    return (
        lambda z, y: losses.balanced_softmax_loss_with_background(
            z, y, COUNTS, **options, reduction="sum"
        ),
        lambda z, y: residuals_of.balanced_softmax_residuals_with_background(
            z, y, COUNTS, **options
        ),
    )


# name -> (loss summed over rows, residuals, columns, highest target)
PAIRS = {
    "sigmoid": (
        lambda z, y: losses.sigmoid_loss(z, y, reduction="sum"),
        residuals_of.sigmoid_residuals,
        K,
        K,
    ),
    "balanced_sigmoid": (
        lambda z, y: losses.balanced_sigmoid_loss(z, y, FREQUENCY, reduction="sum"),
        lambda z, y: residuals_of.balanced_sigmoid_residuals(z, y, FREQUENCY),
        K,
        K,
    ),
    "softmax": (
        lambda z, y: F.cross_entropy(z, y, reduction="sum"),
        residuals_of.softmax_residuals,
        K + 1,
        K,
    ),
    "balanced_softmax": (
        lambda z, y: losses.balanced_softmax_loss(z, y, COUNTS, reduction="sum"),
        lambda z, y: residuals_of.balanced_softmax_residuals(z, y, COUNTS),
        K,
        K - 1,
    ),
    "foreground_only": (*with_background("foreground_only"), K + 1, K),
    "neutral": (*with_background("neutral"), K + 1, K),
    "factored": (*with_background("factored"), K + 1, K),
    "prior": (*with_background("prior", 30.0), K + 1, K),
}
every_pair = pytest.mark.parametrize("name", PAIRS)


@every_pair
@pytest.mark.parametrize("scale", [0.1, 3.0, 200.0])
def test_residuals_are_what_autograd_finds(name: str, scale: float) -> None:
    loss, residuals, columns, highest = PAIRS[name]
    generator = torch.Generator().manual_seed(3)
    logits = scale * torch.randn(9, columns, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, 1, 2, 3, highest, highest, 0, 3, highest])
    logits.requires_grad_()
    (expected,) = torch.autograd.grad(loss(logits, targets), logits)
    result = residuals(logits, targets)
    assert not result.requires_grad
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)


@every_pair
def test_half_precision_is_computed_in_float32_and_input_is_not_changed(name: str) -> None:
    _, residuals, columns, highest = PAIRS[name]
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(5, columns, generator=generator).bfloat16()
    before = logits.clone()
    targets = torch.tensor([0, 1, 2, 3, highest])
    result = residuals(logits, targets)
    assert result.dtype == torch.float32
    assert torch.equal(result, residuals(logits.float(), targets))
    assert torch.equal(logits, before)


@every_pair
def test_a_float32_input_is_not_changed(name: str) -> None:
    _, residuals, columns, highest = PAIRS[name]
    logits = torch.randn(5, columns, generator=torch.Generator().manual_seed(4))
    before = logits.clone()
    residuals(logits, torch.tensor([0, 1, 2, 3, highest]))
    assert torch.equal(logits, before)


@every_pair
def test_an_empty_batch_has_empty_residuals(name: str) -> None:
    _, residuals, columns, _ = PAIRS[name]
    targets = torch.zeros(0, dtype=torch.int64)
    assert residuals(torch.zeros(0, columns), targets).shape == (0, columns)


@every_pair
def test_a_target_out_of_range_is_an_error(name: str) -> None:
    _, residuals, columns, highest = PAIRS[name]
    with pytest.raises(ValueError, match="Expected targets"):
        residuals(torch.zeros(2, columns), torch.tensor([0, highest + 1]))


@pytest.mark.parametrize(
    ("form", "count"),
    [("other", None), ("prior", None), ("neutral", 2.0), ("prior", 0.0), ("prior", -1.0)],
)
def test_background_options_that_do_not_fit_are_an_error(form: str, count: float | None) -> None:
    with pytest.raises(ValueError, match="background"):
        residuals_of.balanced_softmax_residuals_with_background(
            torch.zeros(1, K + 1),
            torch.tensor([0]),
            COUNTS,
            background=form,
            background_count=count,
        )
