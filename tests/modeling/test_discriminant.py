"""The closed-form discriminant, beside the formula written out and means that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from balms_seg.modeling.discriminant import FeatureSums, discriminant

D = 6
COUNTS = (9, 4, 1, 2)


def images() -> tuple[Tensor, Tensor]:
    """Features far from 0, correlated, of classes in no order."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(len(COUNTS)), COUNTS))
    features = rng.normal(size=(len(labels), D)) @ rng.normal(size=(D, D)) + 30 + labels[:, None]
    return torch.from_numpy(features), torch.from_numpy(labels)


def summed(features: Tensor, labels: Tensor, counts: Tensor, *, batch: int = 5) -> FeatureSums:
    sums = FeatureSums(counts, features.shape[1])
    for rows in torch.arange(len(labels)).split(batch):
        sums.add(features[rows], labels[rows])
    return sums


def written_out(features: np.ndarray, labels: np.ndarray, shrinkage: float) -> np.ndarray:
    """(K, D + 1) weights and biases, class by class, by numpy's own covariances and inverse."""
    parts = [features[labels == c] for c in range(len(COUNTS))]
    within = np.mean([np.cov(part, rowvar=False) for part in parts if len(part) > 1], axis=0)
    target = np.trace(within) / D * np.eye(D)
    inverse = np.linalg.inv((1 - shrinkage) * within + shrinkage * target)
    rows = []
    for part in parts:
        mean = part.mean(axis=0)
        noise = np.trace(inverse @ within) / (2 * len(part))
        rows.append([*(inverse @ mean), -mean @ inverse @ mean / 2 + noise])
    return np.array(rows) - np.mean(rows, axis=0)


@pytest.mark.parametrize("shrinkage", [0.01, 0.7, 1.0])
def test_batches_add_up_to_the_formula(shrinkage: float) -> None:
    features, labels = images()
    counts = torch.tensor(COUNTS)
    means, covariance = summed(features, labels, counts).moments()
    weights, biases = discriminant(means, covariance, counts, shrinkage=shrinkage)
    expected = written_out(features.numpy(), labels.numpy(), shrinkage)
    np.testing.assert_allclose(weights, expected[:, :-1], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(biases, expected[:, -1], rtol=1e-8, atol=1e-7)


def test_how_few_images_a_class_has_does_not_move_its_expected_score() -> None:
    """Means of 1, 2, 8 and 100 normal images, drawn 1,000 times about means that are known."""
    rng = np.random.default_rng(1)
    root = rng.normal(size=(D, D))
    covariance, true = root @ root.T, rng.normal(size=(4, D))
    counts, draws = np.array([1, 2, 8, 100]), 1000
    noise = rng.normal(size=(draws, 4, D)) @ root.T / np.sqrt(counts)[:, None]
    biases = np.zeros((draws, 4))
    of = torch.from_numpy(covariance), torch.from_numpy(counts)
    for draw in range(draws):
        _, biases[draw] = discriminant(torch.from_numpy(true + noise[draw]), *of, shrinkage=0.3)
    shrunk = 0.7 * covariance + 0.3 * np.trace(covariance) / D * np.eye(D)
    expected = -(np.linalg.solve(shrunk, true.T).T * true).sum(axis=1) / 2
    expected -= expected.mean()  # weights are linear in the means, and need no correction
    error = biases.std(axis=0) / np.sqrt(draws)
    assert (np.abs(biases.mean(axis=0) - expected) < 4 * error).all()
    # Without the correction a class of one image would lie this much lower than one of 100.
    lost = np.trace(np.linalg.solve(shrunk, covariance)) / 2 * (1 - 1 / 100)
    assert lost > 20 * error.max()


def test_a_class_without_images_scores_as_the_mean_of_the_others() -> None:
    features, labels = images()
    counts = torch.tensor([*COUNTS, 0])
    means, covariance = summed(features, labels, counts).moments()
    weights, biases = discriminant(means, covariance, counts, shrinkage=0.5)
    assert not weights[-1].any()
    assert not biases[-1].any()
    scores = features @ weights.T + biases
    torch.testing.assert_close(scores[:, :-1].mean(dim=1), scores[:, -1], rtol=0, atol=1e-9)
    without = discriminant(means[:-1], covariance, counts[:-1], shrinkage=0.5)
    assert torch.equal(weights[:-1], without[0])


def test_what_allows_no_discriminant_says_so() -> None:
    features, labels = images()
    with pytest.raises(ValueError, match="class with two images or more"):
        summed(features[:1], labels[:1], torch.tensor([1, 0, 0, 0])).moments()
    same = torch.ones_like(features)
    means, covariance = summed(same, labels, torch.tensor(COUNTS)).moments()
    with pytest.raises(ValueError, match="differ within a class"):
        discriminant(means, covariance, torch.tensor(COUNTS), shrinkage=0.5)
    with pytest.raises(ValueError, match="some are NaN or infinite"):
        discriminant(torch.ones(2, 3), torch.full((3, 3), torch.nan), torch.ones(2), shrinkage=0.5)
    with pytest.raises(ValueError, match="INIT_CLASSIFIER_SHRINKAGE"):
        discriminant(means, torch.eye(D), torch.tensor(COUNTS), shrinkage=0.0)
