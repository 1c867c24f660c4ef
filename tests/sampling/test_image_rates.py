"""Rates against their definition, and their gradient against automatic differentiation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sampler_problem import NUM_CLASSES, SHOWN, THRESHOLD, made_up_dicts
from torch import Tensor

from balms_seg.sampling import Block, BoundedLink, ImageClasses, SigmoidLink, compute_repeat_factors
from balms_seg.sampling.estimators import score_gradient
from balms_seg.sampling.image_rates import (
    Link,
    compute_image_rates,
    compute_loss_weights,
    never_largest,
)
from balms_seg.sampling.repeat_factor import class_repeat_factors

IMAGE_CLASSES = ImageClasses(made_up_dicts(), NUM_CLASSES)
REPEAT_FACTORS = class_repeat_factors(IMAGE_CLASSES.image_counts, len(SHOWN), THRESHOLD)
RNG = np.random.default_rng(5)
MANY_PSI = [np.zeros(NUM_CLASSES), RNG.normal(size=NUM_CLASSES), RNG.normal(size=NUM_CLASSES)]
LINKS: dict[str, tuple[Link, np.ndarray]] = {
    "bounded": (BoundedLink(3.0), REPEAT_FACTORS),
    "sigmoid": (SigmoidLink(), np.ones(NUM_CLASSES)),
}


def _factor(link: Link, psi: Tensor) -> Tensor:
    if isinstance(link, BoundedLink):
        return torch.exp(math.log(link.max_factor) * torch.tanh(psi))
    return torch.sigmoid(psi)


def _probabilities(psi: Tensor, base_rates: np.ndarray, link: Link) -> Tensor:
    """By definition, image by image; torch.amax shares the gradient equally among ties."""
    class_rates = torch.from_numpy(base_rates) * _factor(link, psi)
    one = torch.ones((), dtype=torch.float64)
    rates = torch.stack(
        [class_rates[sorted(set(classes))].amax() if classes else one for classes in SHOWN]
    )
    return rates / rates.sum()


@pytest.mark.parametrize("psi", MANY_PSI)
@pytest.mark.parametrize("name", LINKS)
def test_probabilities_follow_the_definition(name: str, psi: np.ndarray) -> None:
    link, base_rates = LINKS[name]
    ours = compute_image_rates(psi, base_rates, link, IMAGE_CLASSES).probabilities
    expected = _probabilities(torch.from_numpy(psi), base_rates, link)
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-12, atol=0)
    assert ours.sum() == pytest.approx(1, abs=1e-14)


def test_at_the_start_probabilities_are_proportional_to_the_repeat_factors() -> None:
    factors = compute_repeat_factors(made_up_dicts(), NUM_CLASSES, THRESHOLD)
    assert len(np.unique(factors)) >= 3
    link, base_rates = LINKS["bounded"]
    ours = compute_image_rates(MANY_PSI[0], base_rates, link, IMAGE_CLASSES).probabilities
    np.testing.assert_allclose(ours / ours[0], factors / factors[0], rtol=1e-12, atol=0)


def test_at_the_start_probabilities_are_proportional_to_detectron2s_factors() -> None:
    """detectron2 rounds its factors to float32; so rounded, ours are equal."""
    samplers = pytest.importorskip("detectron2.data.samplers")
    reference = samplers.RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    dicts = made_up_dicts()
    link, base_rates = LINKS["bounded"]
    ours = compute_image_rates(MANY_PSI[0], base_rates, link, IMAGE_CLASSES).probabilities
    factors = ours / ours[SHOWN.index([0])]  # class 0 is frequent: factor 1
    expected = reference(dicts, THRESHOLD).numpy()
    np.testing.assert_array_equal(factors.astype(np.float32), expected)


@pytest.mark.parametrize("psi", MANY_PSI)
@pytest.mark.parametrize("name", LINKS)
def test_gradient_equals_automatic_differentiation(name: str, psi: np.ndarray) -> None:
    """With ties (all of them at psi = 0), repeated draws, and rates that moved since the draw."""
    link, base_rates = LINKS[name]
    old = compute_image_rates(psi + 0.3 * MANY_PSI[2], base_rates, link, IMAGE_CLASSES)
    indices = np.array([3, 3, 9, 1, 4, 10, 2, 8])
    draws = Block(indices, old.probabilities[indices])
    by_weight = RNG.normal(size=len(indices))
    rates = compute_image_rates(psi, base_rates, link, IMAGE_CLASSES)
    ours = score_gradient(by_weight, draws, rates, IMAGE_CLASSES)

    variable = torch.from_numpy(psi.copy()).requires_grad_()
    weights = _probabilities(variable, base_rates, link)[indices] / torch.from_numpy(
        old.probabilities[indices]
    )
    np.testing.assert_allclose(
        compute_loss_weights(draws, rates), weights.detach().numpy(), rtol=1e-12
    )
    (weights * torch.from_numpy(by_weight)).sum().backward()
    assert variable.grad is not None
    np.testing.assert_allclose(ours, variable.grad.numpy(), rtol=1e-10, atol=1e-14)
    assert np.count_nonzero(ours) >= 3


def test_ties_share_the_gradient_equally() -> None:
    rates = compute_image_rates(np.zeros(6), np.ones(6), BoundedLink(4.0), IMAGE_CLASSES)
    np.testing.assert_array_equal(rates.shares[IMAGE_CLASSES.images == 3], np.full(3, 1 / 3))


def test_weights_are_exactly_one_while_nothing_has_changed() -> None:
    link, base_rates = LINKS["bounded"]
    for psi in MANY_PSI:
        rates, again = (compute_image_rates(psi, base_rates, link, IMAGE_CLASSES) for _ in range(2))
        indices = np.arange(len(SHOWN))
        assert (compute_loss_weights(Block(indices, rates.probabilities), again) == 1).all()


def test_the_bounded_factor_stays_in_its_range() -> None:
    psi = np.array([-np.inf, -1e9, -20.0, -0.5, 0.0, 0.5, 20.0, 1e9, np.inf])
    for max_factor in (1.5, 3.0, 4.0, 10.0, 7.3):
        factor = BoundedLink(max_factor).factor(psi)
        assert (factor >= 1 / max_factor).all()
        assert (factor <= max_factor).all()
        assert (np.diff(factor[2:7]) > 0).all()
        assert factor[4] == 1
        np.testing.assert_allclose(factor * factor[::-1], 1, rtol=1e-14)


@pytest.mark.parametrize("max_factor", [1.0, 0.5, math.inf, math.nan])
def test_a_factor_bound_that_bounds_nothing_is_refused(max_factor: float) -> None:
    with pytest.raises(ValueError, match=r"META\.MAX_FACTOR above 1"):
        BoundedLink(max_factor)


def test_weights_stay_within_the_documented_range() -> None:
    """Even where psi jumped from one end to the other between draw and use."""
    link, base_rates = BoundedLink(3.0), REPEAT_FACTORS
    ends = np.where(np.arange(NUM_CLASSES) % 2, 50.0, -50.0)
    old, new = (compute_image_rates(psi, base_rates, link, IMAGE_CLASSES) for psi in (ends, -ends))
    indices = np.arange(len(SHOWN))
    weights = compute_loss_weights(Block(indices, old.probabilities), new)
    assert weights.max() <= 3.0**4
    assert weights.min() >= 3.0**-4
    assert weights.max() / weights.min() > 9


def test_classes_that_are_never_largest_are_found() -> None:
    """Class 0 shares image 0's maximum only with itself; 3 always stands beside a larger rate."""
    shown = [[0], [0, 3, 4], [4, 3], []]
    image_classes = ImageClasses(made_up_dicts(shown), NUM_CLASSES)
    rates = compute_image_rates(
        np.zeros(6), np.array([1, 1, 1, 2, 3, 1.0]), BoundedLink(4.0), image_classes
    )
    assert never_largest(rates, image_classes).tolist() == [3]


def test_a_data_set_without_any_annotation_is_uniform() -> None:
    image_classes = ImageClasses(made_up_dicts([[], [], []]), 2)
    rates = compute_image_rates(np.zeros(2), np.ones(2), BoundedLink(4.0), image_classes)
    np.testing.assert_array_equal(rates.probabilities, np.full(3, 1 / 3))
    draws = Block(np.array([0, 2]), np.full(2, 1 / 3))
    assert (score_gradient(np.ones(2), draws, rates, image_classes) == 0).all()


def test_labels_of_classification_dicts_are_read() -> None:
    image_classes = ImageClasses([{"label": 2}, {"label": 0}, {"label": 2}], 3)
    rates = compute_image_rates(np.array([0.0, 0, 1]), np.ones(3), SigmoidLink(), image_classes)
    high = 1 / (1 + math.exp(-1))
    expected = np.array([high, 0.5, high])
    np.testing.assert_allclose(rates.probabilities, expected / expected.sum(), rtol=1e-14)
