"""Losses for whole images: their laws, and parity with reference implementations."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from balms_seg.losses import (
    balanced_softmax_loss,
    effective_number_weights,
    feature_balanced_loss,
    focal_loss,
    inverse_frequency_weights,
    ldam_loss,
    logit_adjusted_loss,
)
from balms_seg.losses.feature_balanced import relative_rarity
from balms_seg.losses.ldam import ldam_margins
from balms_seg.methods.class_balanced import weigh_rows

GOLDEN = Path(__file__).parents[1] / "golden" / "image_losses.npz"
CASES = range(3)
COUNTS = torch.tensor([400.0, 90.0, 20.0, 5.0], dtype=torch.float64)
close = partial(torch.testing.assert_close, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    """Of each case, but `alphas`."""
    with np.load(GOLDEN) as content:
        return {name: torch.from_numpy(np.asarray(content[name])) for name in content.files}


@pytest.fixture
def problem() -> tuple[Tensor, Tensor, Tensor]:
    """Logits (12, 4), targets (12,), features (12, 3)."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(12, 4, generator=generator, dtype=torch.float64)
    features = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.arange(12) % 4, features.requires_grad_()


def assert_equals_reference(
    golden: dict[str, Tensor],
    name: str,
    case: int,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    argument: str = "logits",
    atol: float = 1e-12,
) -> None:
    """Value and gradient of a loss of (logits, targets, counts)."""
    logits = golden[argument][case].clone().requires_grad_()
    value = loss(logits, golden["targets"][case], golden["counts"][case].double())
    value.backward()
    close(value.detach(), golden[name][case], atol=atol)
    close(logits.grad, golden[f"{name}_gradient"][case], atol=atol)


exact_weights = partial(effective_number_weights, dtype=torch.float64)


def class_balanced(logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    losses = F.cross_entropy(logits, targets, reduction="none")
    return weigh_rows(losses, exact_weights(counts), targets).mean()


def deferred(logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    losses = ldam_loss(logits, targets, counts, reduction="none")
    return weigh_rows(losses, exact_weights(counts), targets).mean()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("name", "argument", "loss"),
    [
        ("balanced_softmax", "logits", balanced_softmax_loss),
        ("focal", "logits", lambda z, y, n: focal_loss(z, y, gamma=1.0)),
        ("focal_2", "logits", lambda z, y, n: focal_loss(z, y, gamma=2.0)),
        ("class_balanced", "logits", class_balanced),
        ("ldam", "cosines", ldam_loss),
        ("ldam_drw", "cosines", deferred),
    ],
)
def test_value_and_gradient_equal_the_reference(
    golden: dict[str, Tensor], name: str, argument: str, loss: object, case: int
) -> None:
    assert_equals_reference(golden, name, case, loss, argument=argument)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("name", "tau"), [("logit_adjusted", 1.0), ("logit_adjusted_half", 0.5)])
def test_logit_adjustment_equals_the_reference_but_for_its_small_number(
    golden: dict[str, Tensor], name: str, tau: float, case: int
) -> None:
    """The reference adds 1e-12 to pi^tau, of which the smallest here is 7e-4."""
    loss = partial(logit_adjusted_loss, tau=tau)
    assert_equals_reference(golden, name, case, loss, atol=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_class_balanced_loss_is_the_authors_over_the_mean_weight_of_the_rows(
    golden: dict[str, Tensor], case: int
) -> None:
    mean = golden["class_weights"][case][golden["targets"][case]].mean()
    name = "class_balanced_by_rows"
    assert_equals_reference(golden, name, case, lambda z, y, n: mean * class_balanced(z, y, n))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["balanced_softmax", "ldam"])
def test_counts_of_any_dtype_are_as_exact_as_the_logits(
    golden: dict[str, Tensor], name: str, dtype: torch.dtype
) -> None:
    loss, argument = {
        "balanced_softmax": (balanced_softmax_loss, "logits"),
        "ldam": (ldam_loss, "cosines"),
    }[name]
    for case in CASES:
        counts = golden["counts"][case].to(dtype)
        close(loss(golden[argument][case], golden["targets"][case], counts), golden[name][case])


def test_class_weights_equal_the_reference(golden: dict[str, Tensor]) -> None:
    for case in CASES:
        close(exact_weights(golden["counts"][case]), golden["class_weights"][case])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("step", [0, 1, 2])
def test_feature_balanced_loss_equals_the_reference(
    golden: dict[str, Tensor], step: int, case: int
) -> None:
    logits, features = (golden[k][case].clone().requires_grad_() for k in ("logits", "features"))
    value = feature_balanced_loss(
        logits,
        golden["targets"][case],
        golden["counts"][case].double(),
        features,
        strength=60 * golden["alphas"][step].item(),
    )
    value.backward()
    close(value.detach(), golden["feature_balanced"][case, step])
    close(logits.grad, golden["feature_balanced_logits_gradient"][case, step])
    close(features.grad, golden["feature_balanced_features_gradient"][case, step])


def test_strength_zero_is_cross_entropy(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, targets, features = problem
    expected = F.cross_entropy(logits, targets)
    close(focal_loss(logits, targets, gamma=0.0), expected)
    close(ldam_loss(logits, targets, COUNTS, max_margin=0.0, scale=1.0), expected)
    close(logit_adjusted_loss(logits, targets, COUNTS, tau=0.0), expected)
    close(feature_balanced_loss(logits, targets, COUNTS, features, strength=0.0), expected)


def test_tau_one_is_balanced_softmax(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, targets, _ = problem
    expected = balanced_softmax_loss(logits, targets, COUNTS)
    close(logit_adjusted_loss(logits, targets, COUNTS), expected)


def test_uniform_counts_have_no_feature_margin(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, targets, features = problem
    counts = torch.full_like(COUNTS, 30.0)
    value = feature_balanced_loss(logits, targets, counts, features, strength=60.0)
    close(value, F.cross_entropy(logits, targets))


def test_only_ratios_of_counts_matter(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, targets, features = problem
    for loss in (
        ldam_loss,
        logit_adjusted_loss,
        partial(feature_balanced_loss, features=features, strength=3.0),
    ):
        first, second = (loss(logits, targets, counts=n) for n in (COUNTS, 7 * COUNTS))
        torch.testing.assert_close(first, second)


def test_derivatives_by_the_features_are_right(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, targets, features = problem

    def loss(logits: Tensor, features: Tensor) -> Tensor:
        return feature_balanced_loss(logits, targets, COUNTS, features, strength=4.0)

    assert torch.autograd.gradcheck(loss, (logits, features))


def test_features_of_zeros_have_a_finite_gradient(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, targets, features = problem
    zeros = torch.zeros_like(features).requires_grad_()
    feature_balanced_loss(logits, targets, COUNTS, zeros, strength=60.0).backward()
    assert zeros.grad.isfinite().all()
    assert logits.grad.isfinite().all()


def test_features_of_another_batch_are_an_error(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, targets, features = problem
    with pytest.raises(ValueError, match=r"features of shape \(12, D\)"):
        feature_balanced_loss(logits, targets, COUNTS, features[:5], strength=1.0)


@pytest.mark.parametrize("gamma", [0.25, 0.5, 1.0, 5.0])
def test_focal_loss_is_finite_where_the_target_is_certain(gamma: float) -> None:
    logits = torch.tensor([[1e4, 0.0, 0.0], [0.0, 1e4, 0.0]]).requires_grad_()
    loss = focal_loss(logits, torch.tensor([0, 0]), gamma=gamma, reduction="none")
    loss.sum().backward()
    assert loss[0] == 0
    assert loss[1] == 1e4
    assert logits.grad.isfinite().all()


def test_margins_grow_with_rarity_up_to_the_largest() -> None:
    margins = ldam_margins(COUNTS, max_margin=0.4)
    close(margins[-1], torch.tensor(0.4, dtype=torch.float64))
    close(margins[0] / margins[-1], (COUNTS[-1] / COUNTS[0]) ** 0.25)


def test_relative_rarity_runs_from_zero_to_one() -> None:
    rarity = relative_rarity(COUNTS)
    assert rarity[0] == 0
    assert rarity[-1] == 1
    assert (rarity.diff() > 0).all()


def test_class_weights_sum_to_the_number_of_classes_and_meet_their_limits() -> None:
    inverse = inverse_frequency_weights(COUNTS, dtype=torch.float64)
    close(inverse.sum(), torch.tensor(4.0, dtype=torch.float64))
    close(inverse * COUNTS / (inverse * COUNTS)[0], torch.ones_like(COUNTS))
    close(exact_weights(COUNTS, beta=0.0), torch.ones_like(COUNTS))
    nearly_one = exact_weights(COUNTS, beta=1 - 1e-12)
    torch.testing.assert_close(nearly_one, inverse, rtol=1e-4, atol=0)


UNIFORM = partial(effective_number_weights, beta=0.0)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
@pytest.mark.parametrize("weights", [inverse_frequency_weights, effective_number_weights, UNIFORM])
def test_torchs_loss_takes_the_class_weights_beside_float32_logits(
    weights: Callable[..., Tensor], dtype: torch.dtype
) -> None:
    logits, targets = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 0])
    made = weights(COUNTS.to(dtype))
    loss = F.cross_entropy(logits, targets, weight=made)
    exact = weights(COUNTS, dtype=torch.float64)
    assert torch.equal(made, exact.float())
    expected = F.cross_entropy(logits.double(), targets, weight=exact)
    torch.testing.assert_close(loss, expected.float())


@pytest.mark.parametrize("beta", [-0.1, 1.0, 2.0])
def test_beta_out_of_range_is_an_error(beta: float) -> None:
    with pytest.raises(ValueError, match="beta in"):
        effective_number_weights(COUNTS, beta=beta)


def test_negative_gamma_is_an_error() -> None:
    with pytest.raises(ValueError, match="gamma of at least 0"):
        focal_loss(torch.zeros(1, 2), torch.tensor([0]), gamma=-1.0)
