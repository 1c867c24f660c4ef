"""The moving average of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from balms_seg.engine.weight_average import WeightAverage
from balms_seg.methods import METHODS


def moved(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def test_early_weights_are_forgotten_faster() -> None:
    model = nn.Linear(1, 1)
    moved(model, 0.0)
    average = WeightAverage(model, 0.9)
    average.before_train()
    expected = 0.0
    for iteration in range(1, 200):
        moved(model, float(iteration))
        average.after_step()
        decay = min(0.9, (1 + iteration) / (10 + iteration))
        expected = decay * expected + (1 - decay) * iteration
    assert average.state_dict()["model"]["weight"].item() == pytest.approx(expected, rel=1e-5)
    assert model.weight.item() == 199


def test_the_model_has_the_average_for_a_while() -> None:
    model = nn.BatchNorm1d(2)
    moved(model, 1.0)
    average = WeightAverage(model, 0.5)
    moved(model, 3.0)
    model.num_batches_tracked += 5
    average.after_step()
    with average.applied():
        assert model.weight.tolist() == [pytest.approx(1 + 2 * (1 - 2 / 11))] * 2
        assert int(model.num_batches_tracked) == 5
    assert model.weight.tolist() == [3.0, 3.0]
    with pytest.raises(RuntimeError), average.applied():
        raise RuntimeError
    assert model.weight.tolist() == [3.0, 3.0]


def test_a_saved_average_goes_on() -> None:
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    average = WeightAverage(one, 0.9)
    average.after_step()
    again = WeightAverage(other, 0.9)
    again.load_state_dict(average.state_dict())
    again.before_train()  # does not start anew
    assert torch.equal(again.state_dict()["model"]["weight"], one.weight)
    assert again.state_dict()["num_averaged"] == 1


def test_running_state_of_a_method_is_copied() -> None:
    model = nn.Module()
    model.layer = nn.Linear(2, 3)
    model.method = METHODS["eqlv2"](3, has_background=False)
    average = WeightAverage(model, 0.9)
    for _ in range(3):
        moved(model, 1.0)
        model.method.positive_gradients += 1
        average.after_step()
    averaged = average.state_dict()["model"]
    assert averaged["method.positive_gradients"].tolist() == [3.0, 3.0, 3.0]
    assert (averaged["layer.weight"] != 1).all()
    with average.applied():
        assert model.method.positive_gradients.tolist() == [3.0, 3.0, 3.0]
