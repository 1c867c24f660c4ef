"""Class weights: their normalisation, derivative, Adam, ranks, checkpoints and bad input."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from meta_problem import NUM_CLASSES, make_problem, on_ranks
from torch import Tensor

from balms_seg.meta import (
    MetaReweighter,
    linear_classifier,
    one_step_meta_gradient,
    sgd_settings,
)
from balms_seg.meta.adam import AdamSettings
from balms_seg.meta.class_parameters import ClassParameters
from balms_seg.meta.row_weights import class_weights, psi_gradient, sum_by_class

NAMES = ["ant", "bee", "cat", "dog", "elk", "fox"]
TARGETS = torch.tensor([0, 0, 1, 3, 6, 6, 6, 0, 3, 5])
BACKGROUND = TARGETS == NUM_CLASSES
ADAM = AdamSettings(lr=0.1, betas=(0.9, 0.999), weight_decay=0.0)


def new_reweighter(num_classes: int = NUM_CLASSES, **options: object) -> MetaReweighter:
    return MetaReweighter(num_classes, **{"adam": ADAM, "normalise": "global", **options})


def random_psi(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(NUM_CLASSES, generator=generator, dtype=torch.float64)


def random_gradient(seed: int = 1, num_rows: int = len(TARGETS)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_rows, generator=generator, dtype=torch.float64)


def differentiable_weights(psi: Tensor, targets: Tensor) -> Tensor:
    foreground = targets < len(psi)
    weights = torch.ones(len(targets), dtype=psi.dtype)
    rates = psi.sigmoid()[targets[foreground]]
    return weights.masked_scatter(foreground, rates * len(rates) / rates.sum())


def trained(seed: int = 0, **options: object) -> MetaReweighter:
    """A reweighter after three steps."""
    reweighter = new_reweighter(**options).double()
    for step in range(3):
        reweighter.step(reweighter.weigh(TARGETS), random_gradient(seed + step))
    return reweighter


def test_weights_have_mean_one_over_foreground_and_background_has_one() -> None:
    weights = class_weights(random_psi(), TARGETS).weights
    torch.testing.assert_close(weights, differentiable_weights(random_psi(), TARGETS))
    assert weights[~BACKGROUND].mean().item() == pytest.approx(1)
    assert torch.equal(weights[BACKGROUND], torch.ones(3, dtype=torch.float64))
    assert weights.std() > 0.1


def test_weights_start_at_one() -> None:
    rows = new_reweighter().weigh(TARGETS)
    torch.testing.assert_close(rows.weights, torch.ones(len(TARGETS)))


def test_gradient_by_psi_is_what_autograd_finds_through_the_normaliser() -> None:
    psi, gradient = random_psi().requires_grad_(), random_gradient()
    (expected,) = torch.autograd.grad((differentiable_weights(psi, TARGETS) * gradient).sum(), psi)
    rows = class_weights(psi.detach(), TARGETS)
    sums = sum_by_class(gradient, TARGETS, NUM_CLASSES)
    result = psi_gradient(psi.detach(), sums, rows.scale, rows.count)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)
    assert torch.equal(result[[2, 4]], torch.zeros(2, dtype=torch.float64))  # no row


def test_psi_gradient_of_the_whole_step_equals_finite_differences() -> None:
    problem = make_problem(num_rows=20)
    optimizer = torch.optim.SGD(problem.layer.parameters(), lr=0.3, momentum=0.9)
    psi, step = random_psi(), 1e-5
    rows = class_weights(psi, problem.targets)
    problem.weights = rows.weights
    meta = one_step_meta_gradient(
        linear_classifier(problem.layer),
        sgd_settings(optimizer, problem.layer.parameters()),
        **problem.rows(),
    )
    sums = sum_by_class(meta.sample_weights, problem.targets, NUM_CLASSES)
    gradient = psi_gradient(psi, sums, rows.scale, rows.count)

    differences = []
    for direction in step * torch.eye(NUM_CLASSES, dtype=torch.float64):
        after, before = (
            problem.meta_loss_after_a_real_step(
                optimizer, class_weights(psi + sign * direction, problem.targets).weights
            )[0]
            for sign in (1, -1)
        )
        differences.append((after - before) / (2 * step))
    torch.testing.assert_close(gradient, torch.stack(differences), rtol=1e-5, atol=1e-9)
    assert gradient.abs().max() > 1e-3


def test_a_batch_without_foreground_gives_ones_and_moves_nothing() -> None:
    for targets in (torch.full((4,), NUM_CLASSES), torch.zeros(0, dtype=torch.int64)):
        reweighter = new_reweighter()
        rows = reweighter.weigh(targets)
        assert torch.equal(rows.weights, torch.ones(len(targets)))
        reweighter.step(rows, torch.ones(len(targets)))
        assert torch.equal(reweighter.classes.psi, torch.zeros(NUM_CLASSES))


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_is_torch_adam(weight_decay: float, dtype: torch.dtype) -> None:
    settings = AdamSettings(lr=0.05, betas=(0.8, 0.95), weight_decay=weight_decay)
    parameter = torch.nn.Parameter(torch.zeros(5, dtype=dtype))
    optimizer = torch.optim.Adam([parameter], **vars(settings))
    classes = ClassParameters(5, settings, start=torch.zeros(5, dtype=dtype))
    generator = torch.Generator().manual_seed(0)
    for step in range(20):
        gradient = torch.randn(5, generator=generator, dtype=dtype)
        gradient[1] = gradient[1] if step == 0 else 0  # goes on by its momentum
        classes.step(gradient)
        parameter.grad = gradient
        optimizer.step()
    torch.testing.assert_close(classes.psi, parameter.detach())
    assert classes.psi.dtype == dtype


def test_weight_decay_draws_psi_back_to_its_start() -> None:
    start = torch.tensor([-2.0, 0.0, 3.0])
    classes = ClassParameters(3, AdamSettings(0.1, (0.9, 0.999), 1.0), start=start)
    classes.step(torch.zeros(3))
    assert torch.equal(classes.psi, start)
    classes.psi = start + torch.tensor([1.0, -1.0, 0.0])
    for _ in range(300):
        classes.step(torch.zeros(3))
    torch.testing.assert_close(classes.psi, start, rtol=0, atol=0.02)


def test_a_class_that_leaves_the_meta_set_keeps_still_whatever_its_momentum() -> None:
    reweighter = trained(adam=replace(ADAM, weight_decay=0.1))
    free = copy.deepcopy(reweighter)
    has_samples = torch.tensor([True, False, True, True, True, False])
    reweighter.set_meta_classes(has_samples, warn=False)
    before = {name: value.clone() for name, value in reweighter.named_buffers()}
    for each in (reweighter, free):
        rows = each.weigh(TARGETS)
        each.step(rows, random_gradient(9))
    for name in ("psi", "first_moment", "second_moment", "num_steps"):
        value, old = getattr(reweighter.classes, name), before[f"classes.{name}"]
        assert torch.equal(value[~has_samples], old[~has_samples])
        assert torch.equal(value[has_samples], getattr(free.classes, name)[has_samples])
    assert (free.classes.psi != before["classes.psi"])[[1, 5]].all()


def test_a_class_that_enters_the_meta_set_takes_adams_first_step() -> None:
    reweighter = new_reweighter().double()
    reweighter.set_meta_classes(torch.arange(NUM_CLASSES) != 1, warn=False)
    for step in range(3):
        reweighter.step(reweighter.weigh(TARGETS), random_gradient(step))
    assert reweighter.classes.psi[1] == 0
    reweighter.set_meta_classes(torch.ones(NUM_CLASSES, dtype=torch.bool))
    reweighter.step(reweighter.weigh(TARGETS), random_gradient(5))
    assert reweighter.classes.psi[1].abs().item() == pytest.approx(0.1, rel=1e-5)  # lr, whatever g


def test_classes_missing_from_the_meta_set_are_named_in_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reweighter = new_reweighter(class_names=NAMES)
    with caplog.at_level(logging.WARNING):
        reweighter.set_meta_classes(torch.ones(NUM_CLASSES, dtype=torch.bool))
        assert not caplog.records
        reweighter.set_meta_classes(torch.arange(NUM_CLASSES) < 4)
    (record,) = caplog.records
    assert "2 classes: 4 (elk), 5 (fox)" in record.getMessage()


def test_two_ranks_normalise_together() -> None:
    psi = random_psi().requires_grad_()
    gradient = random_gradient()
    (expected,) = torch.autograd.grad((differentiable_weights(psi, TARGETS) * gradient).sum(), psi)
    alone = new_reweighter().double()
    alone.classes.psi = psi.detach()
    rows = alone.weigh(TARGETS)
    alone.step(rows, gradient)

    def work(rank: int, sum_over_ranks: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        part = slice(0, 3) if rank == 0 else slice(3, None)
        reweighter = new_reweighter(sum_over_ranks=sum_over_ranks).double()
        reweighter.classes.psi = psi.detach()
        rows = reweighter.weigh(TARGETS[part])
        reweighter.step(rows, gradient[part])
        return rows.weights, reweighter.classes.psi, reweighter.classes.first_moment

    parts = on_ranks(work)
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), rows.weights)
    for _, new_psi, first_moment in parts:
        assert torch.equal(new_psi, parts[0][1])
        torch.testing.assert_close(new_psi, alone.classes.psi)
        torch.testing.assert_close(first_moment, 0.1 * expected)


def test_ranks_that_normalise_on_their_own_have_mean_one_each() -> None:
    psi = random_psi().requires_grad_()
    gradient, parts = random_gradient(), (slice(0, 3), slice(3, None))
    weighted = sum(
        (differentiable_weights(psi, TARGETS[part]) * gradient[part]).sum() for part in parts
    )
    (expected,) = torch.autograd.grad(weighted, psi)

    def work(rank: int, sum_over_ranks: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        reweighter = new_reweighter(normalise="rank", sum_over_ranks=sum_over_ranks).double()
        reweighter.classes.psi = psi.detach()
        rows = reweighter.weigh(TARGETS[parts[rank]])
        reweighter.step(rows, gradient[parts[rank]])
        return rows.weights, reweighter.classes.first_moment

    for part, (weights, first_moment) in zip(parts, on_ranks(work), strict=True):
        assert weights[~BACKGROUND[part]].mean().item() == pytest.approx(1)
        torch.testing.assert_close(first_moment, 0.1 * expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_names_its_class_and_changes_nothing(value: float) -> None:
    reweighter = trained(class_names=NAMES)
    before = {name: tensor.clone() for name, tensor in reweighter.named_buffers()}
    gradient = random_gradient()
    gradient[TARGETS == 3] = value
    with pytest.raises(FloatingPointError, match=r"class 3 \(dog\)\. psi was left.*META\.LR"):
        reweighter.step(reweighter.weigh(TARGETS), gradient)
    for name, tensor in reweighter.named_buffers():
        assert torch.equal(tensor, before[name])


def test_background_rows_may_have_any_derivative() -> None:
    """Their weight does not depend on psi."""
    reweighter, same = trained(), trained()
    gradient = random_gradient()
    same.step(same.weigh(TARGETS), gradient)
    gradient[BACKGROUND] = 1e6
    reweighter.step(reweighter.weigh(TARGETS), gradient)
    assert torch.equal(reweighter.classes.psi, same.classes.psi)


def test_a_restored_reweighter_goes_on_as_if_never_stopped() -> None:
    reweighter = trained(class_names=NAMES, adam=replace(ADAM, weight_decay=0.01))
    restored = new_reweighter(class_names=NAMES, adam=replace(ADAM, weight_decay=0.01)).double()
    restored.load_state_dict(copy.deepcopy(reweighter.state_dict()))
    for step in range(3):
        for each in (reweighter, restored):
            each.step(each.weigh(TARGETS), random_gradient(step))
    assert torch.equal(reweighter.classes.psi, restored.classes.psi)


def test_a_checkpoint_of_other_classes_is_an_error() -> None:
    state = new_reweighter(class_names=NAMES).state_dict()
    with pytest.raises(ValueError, match="this run's 5 classes, but the checkpoint has it for 6"):
        new_reweighter(5).load_state_dict(state)
    other = new_reweighter(class_names=[*NAMES[:-1], "gnu"])
    with pytest.raises(ValueError, match="of other names"):
        other.load_state_dict(state)
    new_reweighter().load_state_dict(state)


def test_psi_is_no_parameter() -> None:
    """Neither the classifier's optimiser nor a data-parallel wrapper may find it."""
    assert not list(new_reweighter().parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalise": "world"}, r"META\.NORMALISE"),
        ({"class_names": NAMES[:2]}, "Expected 6 class names, but got 2"),
    ],
)
def test_bad_settings_are_an_error(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        new_reweighter(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": -1.0},
        {"lr": float("nan")},
        {"betas": (0.9, 1.0)},
        {"betas": (-0.1, 0.5)},
        {"betas": (0.9,)},
        {"weight_decay": float("nan")},
        {"weight_decay": -0.1},
    ],
)
def test_bad_settings_of_adam_are_an_error(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"META\.LR, META\.WEIGHT_DECAY and META\.BETAS"):
        replace(ADAM, **options)
