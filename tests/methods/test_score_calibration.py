"""Post-hoc calibration against its formulas, written out anew in float64 on logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from balms_seg import ClassStatistics
from balms_seg.methods.calibration import (
    CALIBRATIONS,
    ScoreCalibration,
    norcal_log_weights,
    reweigh_scores,
)

K, R = 7, 50
COUNTS = np.array([500.0, 120.0, 60.0, 20.0, 9.0, 3.0, 1.0])
GROUPS = np.array([2, 2, 1, 1, 0, 0, 0])
DIMENSIONS = np.array([1.9, 1.7, 1.6, 1.4, 1.2, 1.0, 1.0])
RNG = np.random.default_rng(3)
LOGITS = RNG.normal(0, 3, (R, K + 1))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def calibrate(name: str, probabilities: np.ndarray, **constants: object) -> np.ndarray:
    module = ScoreCalibration(
        name,
        counts=torch.tensor(constants.pop("counts", COUNTS)),
        group_ids=torch.tensor(GROUPS),
        dimensions=torch.tensor(constants.pop("dimensions", DIMENSIONS)),
        **constants,
    )
    return module(torch.tensor(probabilities)).double().numpy()


@pytest.mark.parametrize("gamma", [0.3, 1.0])
def test_norcal_divides_the_classes_and_normalises_with_background(gamma: float) -> None:
    powers = np.exp(LOGITS)
    powers[:, :-1] /= COUNTS**gamma
    expected = powers / powers.sum(axis=1, keepdims=True)
    found = calibrate("norcal", softmax(LOGITS), strength=gamma)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_logit_adjustment_subtracts_the_log_prior(tau: float) -> None:
    logits = LOGITS.copy()
    logits[:, :-1] -= tau * np.log(COUNTS / COUNTS.sum())
    found = calibrate("logit_adjustment", softmax(LOGITS), strength=tau)
    np.testing.assert_allclose(found, softmax(logits), rtol=1e-5, atol=1e-9)


def test_fracal_on_a_softmax_follows_its_steps() -> None:
    logits = LOGITS.copy()
    logits[:, :-1] += -np.log10(COUNTS / COUNTS.sum()) + np.log10(1 / K)
    scores = softmax(logits) / np.append(DIMENSIONS, 1.0) ** 2.0
    expected = scores / scores.sum(axis=1, keepdims=True)
    found = calibrate("fracal", softmax(LOGITS), strength=2.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


def test_fracal_on_sigmoids_multiplies_two_of_them() -> None:
    logits = LOGITS[:, :-1]
    shares = DIMENSIONS**2.0 / (DIMENSIONS**2.0).sum()
    shift = -np.log10(COUNTS / COUNTS.sum()) + np.log10(1 / K)
    shift = shift - np.log10(shares) + np.log10(1 / K)
    expected = sigmoid(logits) * sigmoid(logits + shift)
    probabilities = np.pad(sigmoid(logits), ((0, 0), (0, 1)))
    found = calibrate("fracal", probabilities, strength=2.0, independent=True)
    np.testing.assert_allclose(found[:, :-1], expected, rtol=1e-4, atol=1e-9)
    assert (found[:, -1] == 0).all()


@pytest.mark.parametrize("independent", [False, True], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize(("counts", "form"), [("image", "base10"), ("instance", "base10_obj")])
def test_fracal_equals_the_release(counts: str, form: str, independent: bool) -> None:
    """Images of a class as a share of all images, or instances of all instances."""
    with np.load(Path(__file__).parents[1] / "golden" / "zoo_losses.npz") as golden:
        logits, dimensions = golden["logits"], torch.tensor(golden["fractal_dimensions"])
        expected = golden[f"fracal_{'sigmoid' if independent else 'softmax'}_{form}"]
        statistics = ClassStatistics(
            image_counts=golden["image_counts"],
            instance_counts=golden["instance_counts"],
            num_images=int(golden["num_images"]),
            class_names=tuple("abcdef"),
            group_names=("rare",),
            group_ids=np.zeros(6, np.int64),
        )
    module = ScoreCalibration.of_training_set(
        "fracal",
        statistics,
        counts=counts,
        strength=2.0,
        dimensions=dimensions,
        independent=independent,
    )
    scores = np.pad(sigmoid(logits[..., :-1]), ((0, 0), (0, 0), (0, 1)))
    for step in range(len(logits)):
        given = torch.tensor(scores[step] if independent else softmax(logits[step]))
        found = module(given).numpy()[:, : expected.shape[2]]
        np.testing.assert_allclose(found, expected[step], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["norcal", "logit_adjustment"])
def test_on_sigmoids_the_log_weight_is_added_to_the_logit(name: str) -> None:
    prior = COUNTS if name == "norcal" else COUNTS / COUNTS.sum()
    probabilities = np.pad(sigmoid(LOGITS[:, :-1]), ((0, 0), (0, 1)))
    found = calibrate(name, probabilities, strength=0.7, independent=True)
    expected = sigmoid(LOGITS[:, :-1] - 0.7 * np.log(prior))
    np.testing.assert_allclose(found[:, :-1], expected, rtol=1e-4, atol=1e-9)
    assert (found[:, -1] == 0).all()


def test_each_group_has_its_temperature() -> None:
    temperatures = (0.5, 1.0, 2.0)
    probabilities = np.pad(sigmoid(LOGITS[:, :-1]), ((0, 0), (0, 1)))
    found = calibrate("group_temperature", probabilities, temperatures=temperatures)
    expected = sigmoid(LOGITS[:, :-1] / np.array(temperatures)[GROUPS])
    np.testing.assert_allclose(found[:, :-1], expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "independent", "constants"),
    [
        ("norcal", False, {"strength": 0.0}),
        ("norcal", True, {"strength": 0.0}),
        ("logit_adjustment", False, {"strength": 0.0}),
        ("logit_adjustment", True, {"strength": 0.0}),
        ("group_temperature", False, {"temperatures": (1.0, 1.0, 1.0)}),
        ("group_temperature", True, {"temperatures": (1.0, 1.0, 1.0)}),
        # On sigmoids FRACAL multiplies two of them, which is no identity anywhere.
        ("fracal", False, {"counts": np.full(K, 9.0), "dimensions": np.ones(K), "strength": 2.0}),
    ],
)
def test_at_its_limit_a_calibration_changes_nothing(
    name: str, independent: bool, constants: dict
) -> None:
    probabilities = softmax(LOGITS)
    if independent:
        probabilities = np.pad(sigmoid(LOGITS[:, :-1]), ((0, 0), (0, 1)))
    found = calibrate(name, probabilities, independent=independent, **constants)
    np.testing.assert_allclose(found, probabilities, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["norcal", "logit_adjustment"])
def test_uniform_counts_keep_the_order_of_the_classes(name: str) -> None:
    probabilities = softmax(LOGITS)
    found = calibrate(name, probabilities, counts=np.full(K, 40.0), strength=1.0)
    order = np.argsort(probabilities[:, :-1], axis=1)
    assert np.array_equal(np.argsort(found[:, :-1], axis=1), order)


def test_norcal_and_logit_adjustment_agree_among_the_classes() -> None:
    found = [calibrate(n, softmax(LOGITS), strength=0.6) for n in ("norcal", "logit_adjustment")]
    ratios = [one[:, :-1] / one[:, :-1].sum(axis=1, keepdims=True) for one in found]
    np.testing.assert_allclose(*ratios, rtol=1e-4)
    assert (found[1][:, -1] < found[0][:, -1]).all()  # background loses more to logit adjustment


def test_certain_and_impossible_scores_stay_finite() -> None:
    probabilities = np.eye(K + 1)
    for name in CALIBRATIONS[1:]:
        found = calibrate(name, probabilities)
        assert np.isfinite(found).all(), name
        assert (found >= 0).all()


def test_no_proposals_are_no_error() -> None:
    for name in CALIBRATIONS[1:]:
        assert calibrate(name, np.zeros((0, K + 1))).shape == (0, K + 1)


def test_a_single_score_of_a_softmax_is_exact_where_the_rest_is_background() -> None:
    probabilities = torch.tensor([[0.3, 0.0, 0.7]])
    counts = torch.tensor([50.0, 2.0])
    module = ScoreCalibration("norcal", counts=counts, group_ids=torch.tensor([1, 0]), strength=0.5)
    row = module(probabilities)[0, 0]
    own_weight = norcal_log_weights(counts, gamma=0.5)[0]
    assert torch.isclose(reweigh_scores(torch.tensor(0.3), own_weight), row)
    assert torch.isclose(reweigh_scores(torch.tensor(0.3), torch.tensor(0.0)), torch.tensor(0.3))


def test_what_cannot_be_calibrated_is_an_error() -> None:
    counts, groups = torch.tensor(COUNTS), torch.tensor(GROUPS)
    with pytest.raises(ValueError, match="got 'platt'"):
        ScoreCalibration("platt", counts=counts, group_ids=groups)
    with pytest.raises(ValueError, match="fractal dimensions of 7 classes, but got 0"):
        ScoreCalibration("fracal", counts=counts, group_ids=groups)
