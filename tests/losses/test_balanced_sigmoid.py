"""The sigmoid form against the authors' release, and its laws."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from balms_seg.losses import balanced_sigmoid_loss, sigmoid_loss

GOLDEN = Path(__file__).parents[1] / "golden" / "balanced_sigmoid.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN) as content:
        return {name: torch.from_numpy(content[name]) for name in content.files}


def test_release_value_and_gradient_are_reproduced(golden: dict[str, torch.Tensor]) -> None:
    logits = golden["logits"].clone().requires_grad_()
    loss = balanced_sigmoid_loss(logits, golden["targets"], golden["frequency"].double())
    loss.backward()
    torch.testing.assert_close(loss, golden["loss"], rtol=0, atol=1e-9)
    torch.testing.assert_close(logits.grad, golden["gradient"], rtol=0, atol=1e-9)
    assert torch.equal(logits, golden["logits"])


def test_release_sigmoid_baseline_is_reproduced(golden: dict[str, torch.Tensor]) -> None:
    loss = sigmoid_loss(golden["logits"], golden["targets"])
    torch.testing.assert_close(loss, golden["plain_loss"], rtol=0, atol=1e-9)


def test_float32_frequency_is_close_to_the_release(golden: dict[str, torch.Tensor]) -> None:
    loss = balanced_sigmoid_loss(
        golden["logits"].float(), golden["targets"], golden["frequency"].float()
    )
    torch.testing.assert_close(loss.double(), golden["loss"], rtol=1e-6, atol=0)


def one_hot_without_background(targets: torch.Tensor, num_classes: int) -> torch.Tensor:
    return F.one_hot(targets, num_classes + 1)[:, :-1].double()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 9),
    num_classes=st.integers(1, 9),
    scale=st.sampled_from([0.1, 3.0, 40.0, 300.0]),
)
def test_equals_binary_cross_entropy_on_shifted_logits(
    seed: int, rows: int, num_classes: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, num_classes)
    logits = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, num_classes + 1, (rows,), generator=generator)
    frequency = 1e-5 + 0.99 * torch.rand(num_classes, generator=generator, dtype=torch.float64)
    logits.requires_grad_()

    is_foreground = (targets < num_classes)[:, None]
    shifted = torch.where(is_foreground, logits - ((1 - frequency) / frequency).log(), logits)
    labels = one_hot_without_background(targets, num_classes)
    expected = F.binary_cross_entropy_with_logits(shifted, labels, reduction="sum") / rows
    loss = balanced_sigmoid_loss(logits, targets, frequency)
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_frequency_of_one_half_is_binary_cross_entropy() -> None:
    logits = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 1, 2, 3, 4, 5, 5, 0])
    loss = balanced_sigmoid_loss(logits, targets, torch.full((5,), 0.5))
    labels = one_hot_without_background(targets, 5)
    expected = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / 8
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(sigmoid_loss(logits, targets), expected)


def test_background_rows_are_not_shifted() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.full((4,), 3)
    loss = balanced_sigmoid_loss(logits, targets, torch.tensor([1e-4, 0.1, 0.9]))
    assert torch.equal(loss, sigmoid_loss(logits, targets))


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_frequency_outside_the_open_interval_is_an_error(value: float) -> None:
    frequency = torch.tensor([0.2, value, 0.3])
    with pytest.raises(ValueError, match=r"frequency in \(0, 1\)"):
        balanced_sigmoid_loss(torch.zeros(2, 3), torch.tensor([0, 3]), frequency)


def test_a_confident_right_answer_keeps_its_small_loss() -> None:
    """softplus(z) - z would cancel to 0 here in float32."""
    loss = sigmoid_loss(torch.tensor([[18.0]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(np.exp(-18.0), rel=1e-4)
