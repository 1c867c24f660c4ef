"""The weighted batch gradient and the meta gradient, by enumerating every batch.

Blocks of 4 from 5 images, batches of 2, 3 classes. The offset of systematic sampling is split into
the intervals on which the block's counts are constant; within a block every ordered pair of places
is equally likely to be a batch. So expectations are finite sums.

Symbols: g(I) (N, D) loss gradients of the images, G = 1/B sum of w_i g(I_i) the batch gradient,
theta (D,) the classifier, eta its learning rate, L the meta loss.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from sampler_problem import make_sampler

from balms_seg.sampling import Block, MetaRepeatFactorTrainingSampler
from balms_seg.sampling.systematic import systematic_counts

SHOWN = [[0], [0, 1], [], [0, 2], [0]]
BLOCK, BATCH = 4, 2
RNG = np.random.default_rng(8)
IMAGE_GRADIENTS = RNG.normal(size=(5, 3))
THETA = RNG.normal(size=3)
CURVATURE = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, -0.4], [0.0, -0.4, 1.5]])
PSI, OLD_PSI = np.array([-0.3, 0.2, 0.5]), np.array([0.1, -0.1, -0.2])


def _sampler(psi: np.ndarray) -> MetaRepeatFactorTrainingSampler:
    sampler = make_sampler(SHOWN, 3, block_size=BLOCK)
    state = sampler.state_dict()
    state["parameters"]["psi"] = torch.from_numpy(psi.copy())
    sampler.load_state_dict(state)
    return sampler


def _probabilities(psi: np.ndarray) -> np.ndarray:
    return _sampler(psi).rates.probabilities


def _batches(psi: np.ndarray) -> list[tuple[float, Block]]:
    """Every batch drawn at `psi`, with its probability."""
    p = _probabilities(psi)
    edges = np.unique(np.concatenate([[0.0, 1.0], np.cumsum(p) * BLOCK % 1]))
    pairs = list(permutations(range(BLOCK), BATCH))
    batches = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        block = np.repeat(np.arange(5), systematic_counts(p, BLOCK, (low + high) / 2))
        for pair in pairs:
            indices = block[list(pair)]
            batches.append(((high - low) / len(pairs), Block(indices, p[indices])))
    return batches


def _batch_gradient(sampler: MetaRepeatFactorTrainingSampler, draws: Block) -> np.ndarray:
    return sampler.loss_weights(draws).numpy() @ IMAGE_GRADIENTS[draws.indices] / BATCH


def _meta_loss(theta: np.ndarray) -> float:
    return float(theta @ CURVATURE @ theta / 2 + np.logaddexp(0, theta).sum())


def _meta_loss_gradient(theta: np.ndarray) -> np.ndarray:
    return CURVATURE @ theta + 1 / (1 + np.exp(-theta))


def _meta_gradient(
    sampler: MetaRepeatFactorTrainingSampler, draws: Block, eta: float
) -> np.ndarray:
    """d L(theta - eta G) / d psi of one batch."""
    virtual = THETA - eta * _batch_gradient(sampler, draws)
    by_weight = -eta / BATCH * IMAGE_GRADIENTS[draws.indices] @ _meta_loss_gradient(virtual)
    return sampler.rate_gradient(draws, torch.from_numpy(by_weight)).numpy()


def _derivative(function: Callable[[np.ndarray], Any], psi: np.ndarray, step: float) -> np.ndarray:
    """Central differences of fourth order by each class parameter."""
    columns = []
    for shift in np.eye(len(psi)) * step:
        near = function(psi + shift) - function(psi - shift)
        far = function(psi + 2 * shift) - function(psi - 2 * shift)
        columns.append((8 * near - far) / (12 * step))
    return np.stack(columns)


def test_the_enumerated_batches_are_all_of_them() -> None:
    batches = _batches(PSI)
    assert sum(chance for chance, _ in batches) == pytest.approx(1, abs=1e-14)
    place = sum(chance * np.bincount(draws.indices[:1], minlength=5) for chance, draws in batches)
    np.testing.assert_allclose(place, _probabilities(PSI), rtol=0, atol=1e-14)


@pytest.mark.parametrize("drawn_at", [PSI, OLD_PSI], ids=["current", "older"])
def test_the_batch_gradient_and_its_derivative_are_unbiased(drawn_at: np.ndarray) -> None:
    """Whatever rates the images were drawn at: E[G] = sum p g, E[dG/dpsi] = d/dpsi of it."""
    sampler = _sampler(PSI)
    mean, mean_derivative = np.zeros(3), np.zeros((3, 3))
    for chance, draws in _batches(drawn_at):
        mean += chance * _batch_gradient(sampler, draws)
        for d, column in enumerate(IMAGE_GRADIENTS[draws.indices].T):
            by_weight = torch.from_numpy(column / BATCH)
            mean_derivative[:, d] += chance * sampler.rate_gradient(draws, by_weight).numpy()
    expected = _probabilities(PSI) @ IMAGE_GRADIENTS
    np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-12)

    derivative = _derivative(lambda psi: _probabilities(psi) @ IMAGE_GRADIENTS, PSI, 1e-3)
    np.testing.assert_allclose(mean_derivative, derivative, rtol=0, atol=1e-10)
    assert np.abs(derivative).min() > 1e-3


def test_the_weights_have_mean_one_whatever_psi_because_of_the_normaliser() -> None:
    sampler = _sampler(PSI)
    by_weight = torch.ones(BATCH, dtype=torch.float64)
    batches = _batches(OLD_PSI)
    for value in (sampler.loss_weights, lambda draws: sampler.rate_gradient(draws, by_weight)):
        mean = sum(chance * value(draws).numpy() for chance, draws in batches)
        np.testing.assert_allclose(mean, 1 if value == sampler.loss_weights else 0, atol=1e-14)


@pytest.mark.parametrize("drawn_at", [PSI, OLD_PSI], ids=["current", "older"])
def test_each_batchs_meta_gradient_equals_finite_differences(drawn_at: np.ndarray) -> None:
    eta = 0.4
    sampler = _sampler(PSI)
    for _, draws in _batches(drawn_at)[::5]:

        def loss(psi: np.ndarray, draws: Block = draws) -> float:
            return _meta_loss(THETA - eta * _batch_gradient(_sampler(psi), draws))

        np.testing.assert_allclose(
            _meta_gradient(sampler, draws, eta), _derivative(loss, PSI, 1e-3), rtol=0, atol=1e-10
        )


def test_the_meta_gradient_approaches_that_of_the_expected_meta_loss() -> None:
    """The expected meta loss also depends on psi through which batches come; to first order in
    eta that is the same, so the error relative to the gradient halves with eta."""

    def expected_loss(psi: np.ndarray, eta: float) -> float:
        sampler = _sampler(psi)
        return sum(
            chance * _meta_loss(THETA - eta * _batch_gradient(sampler, draws))
            for chance, draws in _batches(psi)
        )

    sampler, batches = _sampler(PSI), _batches(PSI)
    errors = []
    for eta in (0.04, 0.02, 0.01, 0.005):
        ours = sum(chance * _meta_gradient(sampler, draws, eta) for chance, draws in batches)
        true = _derivative(lambda psi, eta=eta: expected_loss(psi, eta), PSI, 1e-3)
        errors.append(np.linalg.norm(ours - true) / np.linalg.norm(true))
    ratios = np.array(errors[1:]) / np.array(errors[:-1])
    np.testing.assert_allclose(ratios, 0.5, atol=0.03)
    assert 1e-4 < errors[-1] < 0.1
