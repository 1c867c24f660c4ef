"""The closed-form meta gradient against second-order autograd, differences and torch's SGD."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from meta_problem import FORMS, NUM_CLASSES, Problem, make_problem, on_ranks
from torch import Tensor, nn

from balms_seg.meta import (
    LinearClassifier,
    MetaGradient,
    linear_classifier,
    one_step_meta_gradient,
    sgd_settings,
)

SGD_VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "decay": {"weight_decay": 0.3},
    "momentum": {"momentum": 0.9},
    "momentum and decay": {"momentum": 0.9, "weight_decay": 0.3},
    "dampening": {"momentum": 0.8, "dampening": 0.4, "weight_decay": 0.1},
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
}
every_form = pytest.mark.parametrize("form", FORMS)
every_variant = pytest.mark.parametrize("variant", SGD_VARIANTS)
with_and_without_buffer = pytest.mark.parametrize("num_earlier_steps", [0, 2])


def make_optimizer(problem: Problem, variant: str, num_earlier_steps: int) -> torch.optim.SGD:
    """Separate groups for weight and bias; a schedule has changed the rates since the start."""
    optimizer = torch.optim.SGD(
        [
            {"params": [problem.layer.weight]},
            {"params": [problem.layer.bias], "weight_decay": 0.0},
        ],
        lr=0.05,
        **SGD_VARIANTS[variant],
    )
    for _ in range(num_earlier_steps):
        optimizer.zero_grad()
        problem.train_loss(problem.weights, problem.layer(problem.features)).backward()
        optimizer.step()
    for group, lr in zip(optimizer.param_groups, (0.2, 0.5), strict=True):
        group["lr"] = lr
    return optimizer


def closed_form(problem: Problem, optimizer: torch.optim.SGD) -> MetaGradient:
    settings = sgd_settings(optimizer, problem.layer.parameters())
    return one_step_meta_gradient(linear_classifier(problem.layer), settings, **problem.rows())


def differentiable_sgd(optimizer: torch.optim.SGD, parameter: Tensor, gradient: Tensor) -> Tensor:
    """The recursion as torch documents it, with autograd through it."""
    (group,) = (g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    gradient = gradient + group["weight_decay"] * parameter.detach()
    if group["momentum"]:
        buffer = optimizer.state[parameter].get("momentum_buffer")
        if buffer is None:
            buffer = gradient
        else:
            buffer = group["momentum"] * buffer + (1 - group["dampening"]) * gradient
        gradient = gradient + group["momentum"] * buffer if group["nesterov"] else buffer
    return parameter.detach() - group["lr"] * gradient


def second_order_autograd(problem: Problem, optimizer: torch.optim.SGD) -> Tensor:
    weights = problem.weights.clone().requires_grad_()
    parameters = dict(problem.layer.named_parameters())
    logits = torch.func.functional_call(problem.layer, parameters, problem.features)
    gradients = torch.autograd.grad(
        problem.train_loss(weights, logits), list(parameters.values()), create_graph=True
    )
    virtual = {
        name: differentiable_sgd(optimizer, parameter, gradient)
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
    }
    logits = torch.func.functional_call(problem.layer, virtual, problem.meta_features)
    return torch.autograd.grad(problem.meta_loss(logits), weights)[0]


@every_form
@every_variant
@with_and_without_buffer
def test_equals_second_order_autograd(form: str, variant: str, num_earlier_steps: int) -> None:
    problem = make_problem(form)
    optimizer = make_optimizer(problem, variant, num_earlier_steps)
    expected = second_order_autograd(problem, optimizer)
    assert expected.abs().min() > 1e-6
    gradient = closed_form(problem, optimizer).sample_weights
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-9)


@every_variant
@with_and_without_buffer
def test_virtual_classifier_is_what_the_optimiser_would_make(
    variant: str, num_earlier_steps: int
) -> None:
    problem = make_problem()
    optimizer = make_optimizer(problem, variant, num_earlier_steps)
    _, layer = problem.meta_loss_after_a_real_step(optimizer, problem.weights)
    virtual = closed_form(problem, optimizer).virtual
    torch.testing.assert_close(virtual.weight, layer.weight.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(virtual.bias, layer.bias.detach(), rtol=0, atol=1e-12)


@every_form
@with_and_without_buffer
def test_equals_finite_differences_of_real_steps(form: str, num_earlier_steps: int) -> None:
    problem = make_problem(form)
    optimizer = make_optimizer(problem, "nesterov", num_earlier_steps)
    step = 1e-5
    differences = []
    for direction in step * torch.eye(len(problem.weights), dtype=torch.float64):
        after, before = (
            problem.meta_loss_after_a_real_step(optimizer, problem.weights + sign * direction)[0]
            for sign in (1, -1)
        )
        differences.append((after - before) / (2 * step))
    gradient = closed_form(problem, optimizer).sample_weights
    torch.testing.assert_close(gradient, torch.stack(differences), rtol=1e-5, atol=1e-8)


@every_form
def test_two_ranks_together_give_the_gradient_of_one_process(form: str) -> None:
    problem = make_problem(form)
    optimizer = make_optimizer(problem, "nesterov", 2)
    classifier = linear_classifier(problem.layer)
    settings = sgd_settings(optimizer, problem.layer.parameters())

    def work(rank: int, sum_over_ranks: Callable[[Tensor], Tensor]) -> MetaGradient:
        part = slice(0, 5) if rank == 0 else slice(5, None)
        rows = problem.rows(part)
        return one_step_meta_gradient(classifier, settings, **rows, sum_over_ranks=sum_over_ranks)

    expected = closed_form(problem, optimizer)
    parts = on_ranks(work)
    torch.testing.assert_close(
        torch.cat([part.sample_weights for part in parts]), expected.sample_weights
    )
    for part in parts:
        torch.testing.assert_close(part.virtual, expected.virtual)


def test_nothing_is_changed_and_no_graph_is_kept() -> None:
    problem = make_problem()
    optimizer = make_optimizer(problem, "momentum", 2)
    before = [parameter.detach().clone() for parameter in problem.layer.parameters()]
    buffers = [state["momentum_buffer"].clone() for state in optimizer.state.values()]
    rows = problem.rows()
    rows["features"].requires_grad_()
    settings = sgd_settings(optimizer, problem.layer.parameters())
    result = one_step_meta_gradient(linear_classifier(problem.layer), settings, **rows)
    tensors = [result.sample_weights, *result.virtual]
    assert not any(tensor.requires_grad for tensor in tensors)
    for parameter, old in zip(problem.layer.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
    for state, old in zip(optimizer.state.values(), buffers, strict=True):
        assert torch.equal(state["momentum_buffer"], old)


def test_autocast_and_half_precision_features_are_computed_in_float32() -> None:
    problem = make_problem()
    rows = {**problem.rows(), "features": problem.features.half()}
    rows["meta_features"] = problem.meta_features.half()
    layer = problem.layer.float()
    settings = sgd_settings(torch.optim.SGD(layer.parameters(), lr=0.1), layer.parameters())
    wide = {**rows, "features": rows["features"].float()}
    wide["meta_features"] = rows["meta_features"].float()
    expected = one_step_meta_gradient(linear_classifier(layer), settings, **wide)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = one_step_meta_gradient(linear_classifier(layer), settings, **rows)
    assert result.sample_weights.dtype == torch.float32
    assert torch.equal(result.sample_weights, expected.sample_weights)
    # Not alike in half precision: equal to float64 as float32 is.
    double = make_problem()
    wide = {name: rows[name].double() for name in ("features", "meta_features")}
    settings = sgd_settings(
        torch.optim.SGD(double.layer.parameters(), lr=0.1), double.layer.parameters()
    )
    exact = one_step_meta_gradient(
        linear_classifier(double.layer), settings, **{**double.rows(), **wide}
    )
    torch.testing.assert_close(
        result.sample_weights.double(), exact.sample_weights, rtol=1e-4, atol=1e-7
    )


def test_rows_that_nothing_is_learned_from_get_zero_and_the_others_what_they_had() -> None:
    problem = make_problem()
    optimizer = make_optimizer(problem, "momentum", 2)
    settings = sgd_settings(optimizer, problem.layer.parameters())
    classifier, rows = linear_classifier(problem.layer), problem.rows()
    everything = one_step_meta_gradient(classifier, settings, **rows).sample_weights
    learned = torch.arange(len(everything)) % 3 == 0
    some = one_step_meta_gradient(classifier, settings, **rows, learned=learned).sample_weights
    assert torch.equal(some[~learned], torch.zeros_like(some[~learned]))
    torch.testing.assert_close(some[learned], everything[learned], rtol=1e-12, atol=0)


def test_an_empty_meta_batch_gives_zero() -> None:
    problem = make_problem()
    problem.meta_features, problem.meta_targets = (
        problem.meta_features[:0],
        problem.meta_targets[:0],
    )
    optimizer = make_optimizer(problem, "momentum", 0)
    settings = sgd_settings(optimizer, problem.layer.parameters())
    rows = {**problem.rows(), "meta_normaliser": 1}
    gradient = one_step_meta_gradient(linear_classifier(problem.layer), settings, **rows)
    assert torch.equal(gradient.sample_weights, torch.zeros_like(problem.weights))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("features", torch.zeros(12, 3), r"features of shape \(N, 4\)"),
        ("meta_features", torch.zeros(5, 3), r"features of shape \(N, 4\).*\(5, 3\)"),
        ("residuals", torch.zeros(12, 5), r"residuals of shape \(12, 6\)"),
        ("sample_weights", torch.zeros(11), r"sample_weights of shape \(12,\)"),
        ("meta_residuals", lambda logits: logits[:-1], r"meta residuals of shape \(12, 6\)"),
    ],
)
def test_shapes_that_disagree_are_an_error(name: str, value: object, message: str) -> None:
    problem = make_problem()
    optimizer = make_optimizer(problem, "plain", 0)
    settings = sgd_settings(optimizer, problem.layer.parameters())
    with pytest.raises(ValueError, match=message):
        one_step_meta_gradient(
            linear_classifier(problem.layer), settings, **{**problem.rows(), name: value}
        )


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, NUM_CLASSES, 1),
        nn.Linear(4, NUM_CLASSES, bias=False),
        nn.utils.parametrizations.weight_norm(nn.Linear(4, NUM_CLASSES)),
        nn.ModuleList([nn.Linear(4, NUM_CLASSES)] * 3),
    ],
    ids=["convolution", "no bias", "weight norm", "cascade"],
)
def test_a_classifier_that_is_not_one_linear_layer_is_refused(layer: nn.Module) -> None:
    with pytest.raises(TypeError, match=r"nn\.Linear with a bias"):
        linear_classifier(layer)


def test_logits_of_the_virtual_classifier_ignore_autocast() -> None:
    classifier = LinearClassifier(torch.randn(3, 4), torch.randn(3))
    features = torch.randn(5, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = classifier.logits(features)
    torch.testing.assert_close(logits, features @ classifier.weight.t() + classifier.bias)
