"""Balanced Softmax against a direct evaluation of its formula, and its laws."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from balms_seg.losses import balanced_softmax_loss, balanced_softmax_loss_with_background

FORMS = ("foreground_only", "neutral", "factored", "prior")
SCALE_INVARIANT = ("neutral", "factored")


def options_for(form: str) -> dict:
    return {"background": form, "background_count": 7.0 if form == "prior" else None}


def random_problem(
    seed: int, *, rows: int = 12, num_classes: int = 6, scale: float = 3.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Float64 logits (rows, K + 1), targets in [0, K] with both kinds of rows, counts (K,)."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, num_classes + 1, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, num_classes + 1, (rows,), generator=generator)
    targets[0], targets[1] = num_classes, 0
    counts = torch.exp(8 * torch.rand(num_classes, generator=generator, dtype=torch.float64))
    return logits, targets, counts


def log_sum_exp(values: np.ndarray) -> float:
    return values.max() + math.log(sum(math.exp(v - values.max()) for v in values))


def direct_loss(z: np.ndarray, target: int, counts: np.ndarray, form: str) -> float:
    """One row, K + 1 logits, written from the definition of each form."""
    num_classes = len(counts)
    if form == "neutral":
        counts = counts / np.prod(counts ** (1 / num_classes))
    prior = np.append(counts, 7.0 if form == "prior" else 1.0)
    if form == "factored":
        background = math.exp(z[-1] - log_sum_exp(z))
        if target == num_classes:
            return -math.log(background)
        numerator = counts[target] * math.exp(z[target])
        denominator = sum(n * math.exp(v) for n, v in zip(counts, z[:-1], strict=True))
        return -math.log(1 - background) - math.log(numerator / denominator)
    if target == num_classes and form != "prior":
        prior = np.ones_like(prior)
    shifted = z + np.log(prior)
    return log_sum_exp(shifted) - shifted[target]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(3))
def test_each_background_form_equals_its_definition(form: str, seed: int) -> None:
    logits, targets, counts = random_problem(seed)
    loss = balanced_softmax_loss_with_background(
        logits, targets, counts, reduction="none", **options_for(form)
    )
    expected = [
        direct_loss(z, int(y), counts.numpy(), form)
        for z, y in zip(logits.numpy(), targets, strict=True)
    ]
    np.testing.assert_allclose(loss.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_balanced_softmax_equals_its_definition(seed: int) -> None:
    logits, targets, _ = random_problem(seed)
    counts = torch.exp(torch.linspace(0, 9, 7, dtype=torch.float64))
    loss = balanced_softmax_loss(logits, targets, counts, reduction="none")
    for value, z, y in zip(loss.tolist(), logits.numpy(), targets, strict=True):
        shifted = z + np.log(counts.numpy())
        assert value == pytest.approx(log_sum_exp(shifted) - shifted[y], abs=1e-12)


def test_balanced_softmax_at_uniform_counts_is_cross_entropy() -> None:
    logits, targets, _ = random_problem(0)
    loss = balanced_softmax_loss(logits, targets, torch.full((7,), 37.0))
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets))


@pytest.mark.parametrize("form", FORMS)
def test_forms_at_counts_of_one_are_cross_entropy(form: str) -> None:
    logits, targets, counts = random_problem(1)
    count = 1.0 if form == "prior" else None
    loss = balanced_softmax_loss_with_background(
        logits, targets, torch.ones_like(counts), background=form, background_count=count
    )
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3), form=st.sampled_from(FORMS))
def test_only_neutral_and_factored_ignore_the_scale_of_the_counts(
    seed: int, scale: float, form: str
) -> None:
    logits, targets, counts = random_problem(seed)
    one, scaled = (
        balanced_softmax_loss_with_background(logits, targets, c, **options_for(form))
        for c in (counts, scale * counts)
    )
    if form in SCALE_INVARIANT:
        torch.testing.assert_close(one, scaled)
    elif abs(math.log(scale)) > 0.5:
        assert not torch.isclose(one, scaled, rtol=1e-9, atol=0)


def test_prior_ignores_the_scale_of_all_counts_together() -> None:
    logits, targets, counts = random_problem(2)
    one, scaled = (
        balanced_softmax_loss_with_background(
            logits, targets, s * counts, background="prior", background_count=s * 3.0
        )
        for s in (1.0, 50.0)
    )
    torch.testing.assert_close(one, scaled)


@pytest.mark.parametrize("form", ["foreground_only", "neutral", "factored"])
def test_background_rows_are_not_shifted(form: str) -> None:
    logits, _, counts = random_problem(3)
    targets = torch.full((len(logits),), len(counts))
    logits.requires_grad_()
    loss = balanced_softmax_loss_with_background(logits, targets, counts, background=form)
    (gradient,) = torch.autograd.grad(loss, logits)
    plain = F.cross_entropy(logits, targets)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(gradient, torch.autograd.grad(plain, logits)[0])


def test_prior_shifts_background_rows() -> None:
    logits, targets, counts = random_problem(4)
    options = {"background": "prior", "background_count": 5.0}
    loss = balanced_softmax_loss_with_background(logits, targets, counts, **options)
    every_column = torch.cat([counts, counts.new_tensor([5.0])])
    torch.testing.assert_close(loss, balanced_softmax_loss(logits, targets, every_column))


def test_factored_leaves_the_odds_of_foreground_alone() -> None:
    """Gradient on the background column is that of plain foreground against background."""
    logits, targets, counts = random_problem(5)
    logits.requires_grad_()
    loss = balanced_softmax_loss_with_background(
        logits, targets, counts, background="factored", reduction="sum"
    )
    (gradient,) = torch.autograd.grad(loss, logits)
    is_background = (targets == len(counts)).double()
    expected = logits.softmax(dim=1)[:, -1] - is_background
    torch.testing.assert_close(gradient[:, -1], expected.detach())


def test_loss_of_an_underflowing_probability_is_exact() -> None:
    logits = torch.tensor([[0.0, 300.0, 5.0], [80.0, 0.0, -90.0], [1.0, 2.0, 3.0]])
    targets = torch.tensor([0, 2, 1])
    loss = balanced_softmax_loss(logits, targets, torch.ones(3), reduction="none")
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets, reduction="none"))
    shifted = logits + torch.tensor([9.0, 7.0, 5.0]).log()
    loss = balanced_softmax_loss(logits, targets, torch.tensor([9.0, 7.0, 5.0]), reduction="none")
    torch.testing.assert_close(loss, F.cross_entropy(shifted, targets, reduction="none"))


def test_rarer_class_gets_the_larger_gradient() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    loss = balanced_softmax_loss(logits, torch.tensor([0, 1]), torch.tensor([100.0, 1.0]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[1].abs().max() > 50 * gradient[0].abs().max()


@pytest.mark.parametrize("is_any_known", [True, False])
def test_pixels_without_a_label_are_left_out_as_other_projects_md_says(is_any_known: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    targets = torch.randint(3, (2, 4, 5), generator=generator)
    targets[:, :, 2 if is_any_known else 0 :] = 255
    counts = torch.ones(3)
    expected = F.cross_entropy(logits, targets, ignore_index=255).nan_to_num()  # nan without any
    rows, labels = logits.movedim(1, -1).flatten(0, -2), targets.flatten()
    keep = labels != 255
    torch.testing.assert_close(balanced_softmax_loss(rows[keep], labels[keep], counts), expected)
    losses = balanced_softmax_loss(rows, torch.where(keep, labels, 0), counts, reduction="none")
    torch.testing.assert_close((losses * keep).sum() / keep.sum().clamp(min=1), expected)


@pytest.mark.parametrize(
    ("background", "count", "message"),
    [
        ("prior", None, "needs background_count"),
        ("prior", 0.0, "positive"),
        ("prior", math.inf, "positive and finite"),
        ("neutral", 3.0, "used by"),
        ("none", None, "one of"),
    ],
)
def test_contradicting_background_arguments_are_errors(
    background: str, count: float | None, message: str
) -> None:
    logits, targets, counts = random_problem(0)
    with pytest.raises(ValueError, match=message):
        balanced_softmax_loss_with_background(
            logits, targets, counts, background=background, background_count=count
        )
