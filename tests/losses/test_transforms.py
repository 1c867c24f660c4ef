"""Losses under torch.func and torch.compile: value and gradient are those of a plain call."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from test_loss_contract import LOSSES, every_loss, problem
from torch import Tensor

from balms_seg.losses import effective_number_weights, inverse_frequency_weights

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def value_and_gradient(name: str, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of a plain call."""
    logits = logits.detach().clone().requires_grad_()
    value = LOSSES[name][0](logits, targets)
    value.backward()
    return value.detach(), logits.grad


@every_loss
def test_grad_and_value(name: str) -> None:
    loss, logits, targets = problem(name)
    logits = logits.detach()
    gradient, value = torch.func.grad_and_value(partial(loss, targets=targets))(logits)
    expected, expected_gradient = value_and_gradient(name, logits, targets)
    torch.testing.assert_close(value, expected, **EXACT)
    torch.testing.assert_close(gradient, expected_gradient, **EXACT)


@every_loss
def test_vmap_over_a_stack_of_batches(name: str) -> None:
    """Logits and targets of several batches, as where an ensemble is trained."""
    loss, logits, targets = problem(name)
    stack = torch.stack([logits.detach(), -3 * logits.detach()])
    labels = torch.stack([targets, targets.flip(0)])
    gradients, values = torch.vmap(torch.func.grad_and_value(loss))(stack, labels)
    for i in range(2):
        expected, expected_gradient = value_and_gradient(name, stack[i], labels[i])
        torch.testing.assert_close(values[i], expected, **EXACT)
        torch.testing.assert_close(gradients[i], expected_gradient, **EXACT)
    summed = torch.func.grad(lambda batches: torch.vmap(loss)(batches, labels).sum())(stack)
    torch.testing.assert_close(summed, gradients, **EXACT)


@every_loss
def test_vmap_gives_the_gradient_of_each_sample(name: str) -> None:
    loss, logits, targets = problem(name)
    rows = logits.detach()[:, None]
    per_sample = torch.vmap(torch.func.grad(loss))(rows, targets[:, None])
    for i in range(len(rows)):
        _, expected = value_and_gradient(name, rows[i], targets[i : i + 1])
        torch.testing.assert_close(per_sample[i], expected, **EXACT)


@every_loss
def test_the_hessian_is_that_of_autograd(name: str) -> None:
    loss, logits, targets = problem(name)
    function = partial(loss, targets=targets)
    hessian = torch.func.jacrev(torch.func.jacrev(function))(logits.detach())
    expected = torch.autograd.functional.hessian(function, logits.detach())
    torch.testing.assert_close(hessian, expected, **EXACT)


@every_loss
def test_compiling_leaves_no_break_in_the_graph(name: str) -> None:
    """aot_eager traces forward and backward as the full compiler does, without generating code."""
    loss, logits, targets = problem(name)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    value = compiled(logits, targets)
    value.backward()
    expected, expected_gradient = value_and_gradient(name, logits, targets)
    torch.testing.assert_close(value.detach(), expected, **EXACT)
    torch.testing.assert_close(logits.grad, expected_gradient, **EXACT)


@pytest.mark.slow
@every_loss
def test_compiled_code_agrees(name: str) -> None:
    loss, logits, targets = problem(name)
    value = torch.compile(loss, fullgraph=True)(logits, targets)
    value.backward()
    expected, expected_gradient = value_and_gradient(name, logits, targets)
    torch.testing.assert_close(value.detach(), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(logits.grad, expected_gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("weights", [inverse_frequency_weights, effective_number_weights])
def test_class_weights_compile(weights: object) -> None:
    counts = torch.tensor([500.0, 40.0, 3.0, 1.0])
    compiled = torch.compile(weights, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(counts), weights(counts))
