"""The straight-through estimators: parity with the authors' release, and their laws."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from closed_form_residuals import (
    balanced_softmax_residuals,
    softmax_residuals,
)
from sampler_problem import SETTINGS, make_sampler, random_gradient
from torch import Tensor, nn

from balms_seg.losses import balanced_softmax_loss
from balms_seg.meta import (
    AdamSettings,
    linear_classifier,
    one_step_meta_gradient,
    sgd_settings,
)
from balms_seg.sampling import (
    ESTIMATORS,
    Block,
    ImageClasses,
    MetaRepeatFactorTrainingSampler,
    SigmoidLink,
    estimators,
)
from balms_seg.sampling.estimators import conditional_softmax
from balms_seg.sampling.image_rates import compute_image_rates, tilted_start

GOLDEN = Path(__file__).parents[1] / "golden" / "meta_sampler.npz"
LABELS = np.repeat(np.arange(4), [12, 6, 3, 1])
close = partial(np.testing.assert_allclose, rtol=0, atol=1e-9)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as content:
        return {name: content[name] for name in content.files}


def image_sampler(
    labels: np.ndarray = LABELS,
    *,
    lr: float = 0.01,
    weight_decay: float = 0.0,
    **settings: object,
) -> MetaRepeatFactorTrainingSampler:
    """The Meta Sampler of whole images."""
    num_classes = int(labels.max()) + 1
    image_classes = ImageClasses([{"label": int(label)} for label in labels], num_classes)
    options = {**SETTINGS, "seed": 0, "link": SigmoidLink(), **settings}
    adam = AdamSettings(lr, (0.9, 0.999), weight_decay)
    return MetaRepeatFactorTrainingSampler(
        image_classes, np.ones(num_classes), adam=adam, **options
    )


def exponentials_of(gumbel: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The noise that the estimators would have had to draw for given Gumbel noise."""
    times = np.exp(-gumbel) / probabilities
    first = times.min(axis=1, keepdims=True)
    rest = (times - first) * probabilities
    return np.where(times == first, first, rest)


@pytest.mark.parametrize(("start", "power"), [("flat", 0.0), ("tilted", 0.3)])
def test_iterations_of_the_release_are_reproduced(
    golden: dict[str, np.ndarray], start: str, power: float
) -> None:
    """Given its noise: gradient by psi, psi, and the classifier after the real step."""
    labels, counts = golden["labels"], torch.from_numpy(golden["counts"]).double()
    psi = tilted_start(golden["counts"], power)
    close(psi, golden[f"{start}_psi_start"])
    sampler = image_sampler(labels, start=psi, lr=0.3)
    layer = nn.Linear(4, 5, dtype=torch.float64)
    layer.load_state_dict({n: torch.from_numpy(golden[n]) for n in ("weight", "bias")})
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-3)

    for iteration, lr in enumerate(golden["lrs"].tolist()):
        optimizer.param_groups[0]["lr"] = lr
        rates, indices = sampler.rates, golden[f"{start}_indices"][iteration]
        draws = Block(indices, rates.probabilities[indices])
        features = torch.from_numpy(golden["features"][indices])
        targets = torch.from_numpy(labels[indices])
        meta_targets = torch.from_numpy(golden["meta_targets"][iteration])

        def meta_residuals(logits: Tensor, meta_targets: Tensor = meta_targets) -> Tensor:
            return softmax_residuals(logits, meta_targets)

        classifier = linear_classifier(layer)
        logits = classifier.logits(features)
        by_weight = one_step_meta_gradient(
            classifier,
            sgd_settings(optimizer, layer.parameters()),
            features=features,
            residuals=balanced_softmax_residuals(logits, targets, counts),
            sample_weights=sampler.loss_weights(draws),
            normaliser=len(draws),
            meta_features=torch.from_numpy(golden["meta_features"][iteration]),
            meta_residuals=meta_residuals,
            meta_normaliser=len(meta_targets),
        ).sample_weights.numpy()
        numbers = exponentials_of(golden[f"{start}_noise"][iteration], rates.probabilities)
        gradient = ESTIMATORS["gumbel_image"](
            by_weight,
            draws,
            rates,
            sampler._image_classes,
            lambda rows, count, numbers=numbers: numbers[rows],
        )
        close(gradient, golden[f"{start}_psi_gradient"][iteration])
        sampler.update(torch.from_numpy(gradient))
        close(sampler.parameters.psi.numpy(), golden[f"{start}_psi"][iteration])

        optimizer.zero_grad()
        balanced_softmax_loss(layer(features), targets, counts).backward()
        optimizer.step()
        close(layer.weight.detach(), golden[f"{start}_weight_after"][iteration])
        close(layer.bias.detach(), golden[f"{start}_bias_after"][iteration])


def test_the_iterations_tell_the_estimators_apart(golden: dict[str, np.ndarray]) -> None:
    """Leaving out one image of the noise changes the gradient by far more than the tolerance."""
    sampler = image_sampler(golden["labels"])
    indices = golden["flat_indices"][0]
    draws = Block(indices, sampler.rates.probabilities[indices])
    numbers = exponentials_of(golden["flat_noise"][0], sampler.rates.probabilities)
    changed = numbers.copy()
    other = (indices[0] + 1) % numbers.shape[1]
    changed[0, other] *= 2
    gradients = [
        ESTIMATORS["gumbel_image"](
            np.ones(6),
            draws,
            sampler.rates,
            sampler._image_classes,
            lambda rows, count, values=values: values[rows],
        )
        for values in (numbers, changed)
    ]
    assert np.abs(gradients[0] - gradients[1]).max() > 1e-6


def test_noise_drawn_after_the_draw_has_the_law_of_noise_drawn_before() -> None:
    """Mean and second moments of the soft weights, in standard errors; also who is drawn."""
    probabilities, size = np.array([0.5, 0.3, 0.15, 0.05]), 40_000
    rng = np.random.default_rng(0)
    sums = np.log(probabilities) + rng.gumbel(size=(size, 4))
    before = np.exp(sums) / np.exp(sums).sum(axis=1, keepdims=True)
    drawn = rng.choice(4, size, p=probabilities)
    after = conditional_softmax(probabilities, drawn, rng.exponential(size=(size, 4)))
    assert (after.argmax(axis=1) == drawn).all()
    np.testing.assert_allclose(after.sum(axis=1), 1, rtol=1e-12)

    def statistics(soft: np.ndarray) -> np.ndarray:
        products = (soft[:, :, None] * soft[:, None]).reshape(size, -1)
        of_drawn = soft.max(axis=1, keepdims=True) * np.eye(4)[soft.argmax(axis=1)]
        return np.concatenate([soft, products, of_drawn, (soft == soft.max(1)[:, None])], axis=1)

    first, second = statistics(before), statistics(after)
    error = np.sqrt((first.var(axis=0) + second.var(axis=0)) / size)
    assert (np.abs(first.mean(axis=0) - second.mean(axis=0)) < 4.5 * error).all()


def test_noise_drawn_as_if_nothing_were_known_would_be_seen() -> None:
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    rng = np.random.default_rng(0)
    drawn = rng.choice(4, 40_000, p=probabilities)
    numbers = rng.exponential(size=(40_000, 4))
    numbers[np.arange(40_000), drawn] /= probabilities[drawn]
    sums = np.log(probabilities) + rng.gumbel(size=(40_000, 4))
    right = np.exp(sums.max(axis=1)) / np.exp(sums).sum(axis=1)
    wrong = conditional_softmax(probabilities, drawn, numbers).max(axis=1)
    error = np.sqrt((right.var() + wrong.var()) / 40_000)
    assert abs(right.mean() - wrong.mean()) > 10 * error


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_straight_through_gradient_is_autograds_at_any_temperature(temperature: float) -> None:
    """The derivative of the drawn class's share in the softmax, given the noise behind the draw."""
    rng = np.random.default_rng(3)
    image_classes = ImageClasses([{"label": label} for label in (0, 0, 0, 1, 1, 2)], 3)
    psi = np.array([0.3, -0.2, 0.8])
    rates = compute_image_rates(psi, np.ones(3), SigmoidLink(), image_classes)
    indices, by_weight = np.array([0, 4, 5, 2]), rng.normal(size=4)
    draws = Block(indices, rates.probabilities[indices], np.arange(4))
    numbers = rng.exponential(size=(4, 3))
    gradient = ESTIMATORS["gumbel_class"](
        by_weight, draws, rates, image_classes, lambda rows, count: numbers[rows], temperature
    )

    classes = image_classes.classes[indices]
    shares = np.bincount(image_classes.classes, weights=rates.probabilities)
    times = numbers / shares  # of the classes that were not drawn, above the smallest one's
    times += numbers[np.arange(4), classes][:, None]
    times[np.arange(4), classes] = numbers[np.arange(4), classes]
    # T = e^-(log p + G): the noise G stays as the rates move.
    noise = torch.from_numpy(-np.log(times) - np.log(shares))
    leaf = torch.tensor(psi, requires_grad=True)
    sums = (
        torch.nn.functional.logsigmoid(leaf) + torch.tensor([3.0, 2.0, 1.0]).double().log() + noise
    )
    soft = torch.softmax(sums / temperature, dim=1)[torch.arange(4), torch.tensor(classes)]
    (soft * torch.from_numpy(by_weight)).sum().backward()
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_an_item_that_is_never_drawn_has_no_weight() -> None:
    numbers = np.array([[0.5, 0.0, 2.0], [0.0, 1.0, 1.0]])
    soft = conditional_softmax(np.array([0.7, 0.0, 0.3]), np.array([0, 2]), numbers)
    assert np.isfinite(soft).all()
    assert (soft[:, 1] == 0).all()
    np.testing.assert_allclose(soft.sum(axis=1), 1)


def test_classes_of_one_image_each_make_the_two_alike() -> None:
    labels = np.arange(5)
    gradients = []
    for name in ("gumbel_image", "gumbel_class"):
        sampler = image_sampler(labels, estimator=name)
        sampler.update(random_gradient(0, 5))
        draws = sampler.draw(24)
        gradients.append(sampler.rate_gradient(draws, torch.linspace(-1, 2, 24)))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-15)
    assert gradients[0].abs().max() > 1e-3


def test_the_classes_estimator_needs_one_class_an_image() -> None:
    sampler = make_sampler(estimator="gumbel_class")
    with pytest.raises(ValueError, match=r"META\.ESTIMATOR gumbel_class"):
        sampler.rate_gradient(sampler.draw(4), torch.ones(4))


def test_draws_are_the_same_whatever_the_estimator() -> None:
    blocks = [image_sampler(estimator=name).draw(48).indices.tolist() for name in ESTIMATORS]
    assert blocks[0] == blocks[1] == blocks[2]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_learns_to_draw_the_class_that_helps(name: str) -> None:
    """The loss falls with the weight of class 2 and rises with that of class 0."""
    sampler = image_sampler(estimator=name, block_size=600, lr=0.02)
    for _ in range(10):
        draws = sampler.draw(600)
        by_weight = torch.tensor([1.0, 0, -1, 0])[LABELS[draws.indices]]
        sampler.mark_consumed(600)
        sampler.update(sampler.rate_gradient(draws, by_weight))
    rates = sampler.rates.class_rates
    assert rates[0] < rates[1] < rates[2]
    assert rates[0] < rates[3] < rates[2]


@pytest.mark.parametrize("name", ["gumbel_image", "gumbel_class"])
def test_noise_is_keyed_by_the_draws_position(name: str) -> None:
    """However draws are shared out and ordered; another position has other noise."""
    sampler = image_sampler(estimator=name)
    draws = sampler.draw(24)
    by_weight = torch.linspace(-1, 2, 24)
    whole = sampler.rate_gradient(draws, by_weight)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    shuffled = Block(
        *(c[order.numpy()] for c in (draws.indices, draws.probabilities, draws.positions))
    )
    parts = sum(
        sampler.rate_gradient(shuffled.slice(*part), by_weight[order][slice(*part)])
        for part in ((0, 7), (7, 24))
    )
    torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-12)
    moved = Block(draws.indices, draws.probabilities, draws.positions + 1)
    assert (sampler.rate_gradient(moved, by_weight) - whole).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["gumbel_image", "gumbel_class"])
def test_draws_of_older_rates_are_weighted(name: str) -> None:
    """A draw made at half the probability counts twice."""
    sampler = image_sampler(estimator=name)
    draws = sampler.draw(24)
    older = Block(draws.indices, draws.probabilities / 2, draws.positions)
    by_weight = torch.linspace(-1, 2, 24)
    torch.testing.assert_close(
        sampler.rate_gradient(older, by_weight), 2 * sampler.rate_gradient(draws, by_weight)
    )


def test_draws_without_positions_are_refused() -> None:
    sampler = image_sampler(estimator="gumbel_class")
    draws = sampler.draw(2)
    with pytest.raises(ValueError, match=r"stream positions.*gumbel_class"):
        sampler.rate_gradient(Block(draws.indices, draws.probabilities), torch.ones(2))


def test_noise_of_images_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = image_sampler(estimator="gumbel_image")
    draws, by_weight = sampler.draw(24), torch.linspace(-1, 2, 24)
    whole = sampler.rate_gradient(draws, by_weight)
    for chunk in (1, 100):
        monkeypatch.setattr(estimators, "_CHUNK", chunk)
        torch.testing.assert_close(
            sampler.rate_gradient(draws, by_weight), whole, rtol=1e-12, atol=1e-15
        )


def test_a_power_of_one_draws_all_classes_equally_often() -> None:
    counts = np.bincount(LABELS)
    sampler = image_sampler(start=tilted_start(counts, 1.0))
    by_class = np.bincount(LABELS, weights=sampler.rates.probabilities)
    np.testing.assert_allclose(by_class, 1 / 4, rtol=1e-12)
    rates = sampler.rates.class_rates
    assert rates.min() + rates.max() == pytest.approx(1, abs=1e-12)


def test_decay_draws_back_to_the_start() -> None:
    start = np.array([0.5, -1.0, 0.0, 2.0])
    sampler = image_sampler(start=start, weight_decay=0.5, lr=0.05)
    sampler.update(torch.zeros(4))
    np.testing.assert_allclose(sampler.parameters.psi.numpy(), start, rtol=0, atol=1e-12)
    for _ in range(20):
        sampler.update(torch.tensor([1.0, -1, 1, -1]))
    assert (np.abs(sampler.parameters.psi.numpy() - start) > 0.3).all()
    for _ in range(200):
        sampler.update(torch.zeros(4))
    np.testing.assert_allclose(sampler.parameters.psi.numpy(), start, rtol=0, atol=0.05)
