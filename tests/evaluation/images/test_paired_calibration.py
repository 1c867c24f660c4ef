"""Two classifiers' probabilities are compared on the same images, and called different seldom."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from balms_seg.evaluation.images.classifier_predictions import (
    ClassifierPredictions,
    StoredPredictions,
)
from balms_seg.evaluation.images.paired_calibration import (
    compare_calibration,
    compare_losses,
    label_losses,
)

NUM_CLASSES = 4


def run_of(probabilities: np.ndarray, labels: np.ndarray, order: np.ndarray) -> StoredPredictions:
    """What a classifier with these probabilities leaves, its images in an order."""
    keys = [f"{place}.png" for place in order]
    judged = ClassifierPredictions.from_probabilities(
        probabilities[order], labels[order], np.arange(len(order)), keys
    )
    names = tuple(f"class {label}" for label in range(NUM_CLASSES))
    return StoredPredictions(judged, names, ("",) * NUM_CLASSES)


def runs_at(
    temperatures: tuple[float, float], number: int, *, seed: int
) -> tuple[StoredPredictions, StoredPredictions]:
    """Two runs whose logits are divided by these; right are those divided by 1."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, NUM_CLASSES, number)
    # Gaussian classes of distance 1.5 and variance 1: the log-odds are 1.5 times the features.
    logits = 1.5 * (1.5 * np.eye(NUM_CLASSES)[labels] + rng.normal(size=(number, NUM_CLASSES)))
    first, second = (torch.from_numpy(logits / t).softmax(1).numpy() for t in temperatures)
    whole = np.arange(number)
    return run_of(first, labels, whole), run_of(second, labels, rng.permutation(number))


def test_the_errors_are_those_of_each_run() -> None:
    labels = np.array([0, 0, 1, 1])
    first = np.array([[0.9, 0.1, 0, 0]] * 4)  # half are right: 0.4 from the truth
    second = np.array([[0.6, 0.4, 0, 0]] * 2 + [[0.4, 0.6, 0, 0]] * 2)  # all are, as sure as 0.6
    places = np.arange(4)
    found = compare_calibration(
        run_of(first, labels, places), run_of(second, labels, places[::-1]), num_resamples=20
    )
    assert (found["ece"].first, found["ece"].second) == pytest.approx((0.4, 0.4))
    assert found["nll"].first == pytest.approx(-(np.log(0.9) + np.log(0.1)) / 2)
    assert found["nll"].second == pytest.approx(-np.log(0.6))
    assert found["nll"].value == pytest.approx(found["nll"].second - found["nll"].first)


def test_images_count_by_their_weights() -> None:
    first, second = np.array([1.0, 1.0, 5.0]), np.array([3.0, 1.0, 0.0])
    found = compare_losses(first, second, weights=np.array([1.0, 3.0, 0.0]), num_resamples=20)
    assert (found.first, found.second) == pytest.approx((1, 6 / 4))


def test_a_run_does_not_differ_from_itself_in_another_order() -> None:
    for change in compare_calibration(*runs_at((1, 1), 60, seed=0), num_resamples=50).values():
        assert (change.value, change.low, change.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_equally_wrong_probabilities_are_seldom_called_different() -> None:
    """One run is too sure, the other too unsure, at the same likelihood."""
    alarms = {"ece": 0, "nll": 0}
    for seed in range(60):
        found = compare_calibration(*runs_at((0.8, 1.27), 100, seed=seed), num_resamples=60)
        for name in alarms:
            alarms[name] += found[name].is_larger_than_chance
    # 5 % of 60 are 3; 9 or more come by chance in less than 1 % of such tests.
    assert max(alarms.values()) < 9, alarms


def test_a_clear_difference_is_found() -> None:
    found = compare_calibration(*runs_at((0.4, 1), 400, seed=1), num_resamples=100)
    for change in found.values():
        assert change.is_larger_than_chance
        assert change.low < change.value < change.high < 0


def test_a_label_without_probability_costs_a_finite_loss() -> None:
    assert label_losses(np.array([1.0, 0.0])) == pytest.approx([0, 87.3], abs=0.1)
