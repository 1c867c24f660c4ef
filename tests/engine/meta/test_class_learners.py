"""The baseline under sample rates: less noise, the same gradient on average."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from balms_seg.engine.meta.class_learners import LearnedRates, mean_of_others
from balms_seg.meta import AdamSettings
from balms_seg.modeling.classifier_rows import ClassifierRows
from balms_seg.sampling import BoundedLink, ImageClasses, MetaRepeatFactorTrainingSampler

SHOWN = [[0], [0, 1], [], [0, 2], [0]]
DERIVATIVE = -3 + np.array([0.4, -0.2, 0.1, 0.7, -0.5])  # a larger step helps, whatever is drawn


def make_learner(estimator: str = "score") -> LearnedRates:
    dicts = [{"annotations": [{"category_id": c} for c in classes]} for classes in SHOWN]
    sampler = MetaRepeatFactorTrainingSampler(
        ImageClasses(dicts, 3),
        [1.0, 1.5, 2.0],
        seed=0,
        link=BoundedLink(4.0),
        estimator=estimator,
        block_size=4,
        lookahead=0,
        adam=AdamSettings(0.01, (0.9, 0.999), 0.0),
    )
    return LearnedRates(sampler, ["a", "b", "c"])


def gradient_of(learner: LearnedRates, drawn: tuple[int, ...]) -> Tensor:
    """What Adam is given for a batch of these images, with two rows an image."""
    given: list[Tensor] = []
    learner.sampler.update = given.append
    p = learner.sampler.rates.probabilities
    batch = [
        {"dataset_index": i, "draw_probability": p[i], "stream_position": place}
        for place, i in enumerate(drawn)
    ]
    images = torch.arange(len(drawn)).repeat_interleave(2)
    rows = ClassifierRows(torch.zeros(len(images), 1), torch.zeros_like(images), images)
    by_row = torch.from_numpy(DERIVATIVE[list(drawn)] / len(drawn)).repeat_interleave(2) / 2
    learner.learn(batch, rows, by_row)
    return given[0]


@pytest.mark.parametrize("num_draws", [1, 2, 3])
def test_the_baseline_does_not_change_the_expected_gradient(num_draws: int) -> None:
    """By enumerating all batches of independent draws."""
    learner = make_learner()
    p = learner.sampler.rates.probabilities
    mean = torch.zeros(3, dtype=torch.float64)
    for drawn in product(range(5), repeat=num_draws):
        mean += np.prod(p[list(drawn)]) * gradient_of(learner, drawn)
    psi = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    rates = torch.tensor([1.0, 1.5, 2.0]) * torch.exp(np.log(4) * torch.tanh(psi))
    by_image = torch.stack([rates[c].max() if c else torch.ones(()).double() for c in SHOWN])
    expected_loss = (by_image / by_image.sum() * torch.from_numpy(DERIVATIVE)).sum()
    (expected,) = torch.autograd.grad(expected_loss, psi)
    torch.testing.assert_close(mean, expected, rtol=1e-10, atol=1e-12)


def test_a_class_that_was_not_drawn_has_no_gradient() -> None:
    gradient = gradient_of(make_learner(), (0, 1, 4))
    assert gradient[2] == pytest.approx(0, abs=1e-12)
    assert gradient[:2].abs().min() > 1e-3


def test_a_straight_through_gradient_has_no_baseline() -> None:
    """It would change the expectation there: all draws of an image alike still have a gradient."""
    assert gradient_of(make_learner("gumbel_image"), (4, 4, 4)).abs().min() > 1e-4
    assert gradient_of(make_learner(), (4, 4, 4)).abs().max() < 1e-12


def test_one_image_alone_has_no_baseline() -> None:
    assert mean_of_others(torch.tensor([2.0])).tolist() == [0.0]
    assert mean_of_others(torch.tensor([1.0, 2.0, 6.0])).tolist() == [4.0, 3.5, 1.5]
