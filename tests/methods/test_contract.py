"""What every method of the table promises, asked of it for boxes and for whole images."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from method_cases import (
    STATISTICS,
    K,
    build,
    context_of,
    logits_of,
    loss_of,
    targets_of,
)
from torch import Tensor, nn

from balms_seg.methods import METHODS, Method

CASES = [(name, has_background) for name in METHODS for has_background in (True, False)]


@pytest.fixture(params=CASES, ids=[f"{name}-{'boxes' if b else 'images'}" for name, b in CASES])
def method(request: pytest.FixtureRequest) -> Method:
    name, has_background = request.param
    return build(name, has_background=has_background)


def state_of(method: Method) -> dict[str, Tensor]:
    return copy.deepcopy(method.state_dict())


def assert_same_state(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def train_a_batch(method: Method, seed: int = 0) -> Tensor:
    logits, targets = logits_of(method, seed=seed), targets_of(method)
    return method.training_loss(logits, targets, context_of(len(targets))).detach()


def test_the_loss_is_one_finite_number_a_row_with_a_gradient(method: Method) -> None:
    logits, targets = logits_of(method), targets_of(method)
    rows = loss_of(method, logits, targets)
    rows.mean().backward()
    assert rows.shape == targets.shape
    assert rows.isfinite().all()
    assert (rows >= 0).all()
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().sum() > 0


def test_no_rows_cost_nothing_and_have_a_gradient(method: Method) -> None:
    logits = logits_of(method, 0)
    rows = method.training_loss(logits, torch.empty(0, dtype=torch.int64), context_of(0))
    rows.sum().backward()
    assert rows.shape == (0,)
    assert logits.grad.shape == logits.shape


def test_the_loss_changes_nothing(method: Method) -> None:
    train_a_batch(method)
    logits, targets = logits_of(method, seed=1).detach(), targets_of(method)
    state, before = state_of(method), logits.clone()
    first = loss_of(method, logits, targets)
    method.plain_loss(logits, targets)
    method.probabilities(logits)
    method.decision_scores(logits)
    assert torch.equal(loss_of(method, logits, targets), first)
    assert torch.equal(logits, before)
    assert_same_state(method.state_dict(), state)


def test_training_changes_the_state_that_is_promised_and_nothing_else(method: Method) -> None:
    before, kept = state_of(method), dict(copy.deepcopy(method).named_buffers())
    train_a_batch(method)
    after = method.state_dict()
    assert bool(after) == method.has_state
    assert all(not torch.equal(after[name], before[name]) for name in after)
    for name, buffer in method.named_buffers():
        assert name in after or torch.equal(buffer, kept[name]), name


def test_a_method_loaded_from_its_checkpoint_goes_on_with_the_same_losses(method: Method) -> None:
    train_a_batch(method)
    loaded = type(method)(K, has_background=method.has_background, settings=method.settings)
    loaded.prepare(STATISTICS)
    loaded.load_state_dict(state_of(method))
    assert torch.equal(train_a_batch(loaded, seed=1), train_a_batch(method, seed=1))
    assert_same_state(loaded.state_dict(), method.state_dict())


def test_rows_are_independent_where_promised_and_not_where_not(method: Method) -> None:
    logits, targets = logits_of(method).detach(), targets_of(method)
    rows = loss_of(method, logits, targets)
    part = slice(1, None, 2)
    context = context_of(len(targets))
    alone = method.loss(
        logits[part],
        targets[part],
        type(context)(context.features[part], context.progress, generator=context.generator),
    )
    are_equal = torch.allclose(alone, rows[part], rtol=1e-5, atol=1e-6)
    assert are_equal == method.rows_are_independent


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_is_computed_in_float32_under_autocast(method: Method, dtype: torch.dtype) -> None:
    logits, targets = logits_of(method).detach().to(dtype), targets_of(method)
    expected = loss_of(method, logits.float(), targets)
    with torch.autocast("cpu", dtype=dtype):
        rows = loss_of(method, logits, targets)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, expected)


def test_the_plain_loss_knows_no_statistics(method: Method) -> None:
    logits, targets = logits_of(method), targets_of(method)
    unprepared = type(method)(K, has_background=method.has_background)
    plain = unprepared.plain_loss(logits, targets)
    if isinstance(method, METHODS["bags"]):  # its columns mean nothing without groups
        assert plain is None
        return
    assert plain is not None  # all others of this table can be trained with a meta step
    assert plain.shape == targets.shape
    torch.testing.assert_close(plain, method.plain_loss(logits, targets))


def test_statistics_are_needed_where_promised_and_nowhere_else(method: Method) -> None:
    logits, targets = logits_of(method), targets_of(method)
    for unprepared in (
        type(method)(K, has_background=method.has_background),
        build_without_statistics(method),
    ):
        if not method.needs_statistics:
            expected = loss_of(method, logits, targets)
            assert torch.equal(loss_of(unprepared, logits, targets), expected)
            continue
        with pytest.raises(RuntimeError, match=r"ClassStatistics.*DATASETS\.TRAIN"):
            loss_of(unprepared, logits, targets) + unprepared.probabilities(logits).sum()


def test_progress_is_needed_where_promised_and_nowhere_else(method: Method) -> None:
    logits, targets = logits_of(method), targets_of(method)
    context = replace(context_of(len(targets)), progress=None)
    if not method.needs_progress:
        assert method.loss(logits, targets, context).shape == targets.shape
        return
    with pytest.raises(ValueError, match="reads progress"):
        method.loss(logits, targets, context)


def build_without_statistics(method: Method) -> Method:
    without = copy.deepcopy(method)
    without.prepare(None)
    return without


def test_statistics_of_another_number_of_classes_name_the_key(method: Method) -> None:
    node = "ROI_HEADS" if method.has_background else "IMAGE_CLASSIFIER"
    other = type(method)(K + 1, has_background=method.has_background)
    with pytest.raises(ValueError, match=rf"{K + 1} classes, but got {K}; set MODEL\.{node}\.NUM"):
        other.prepare(STATISTICS)


def test_what_comes_from_the_training_set_follows_the_device_and_stays_out_of_checkpoints(
    method: Method,
) -> None:
    kept = {name for name, _ in method.named_buffers()} - method.state_dict().keys()
    assert bool(kept) == method.needs_statistics
    assert {buffer.device.type for buffer in method.to("meta").buffers()} <= {"meta"}


def test_scores_are_probabilities_of_the_classes_and_background(method: Method) -> None:
    for rows in (0, 7):
        scores = method.probabilities(logits_of(method, rows).detach())
        assert scores.shape == (rows, K + method.has_background)
        assert ((scores >= 0) & (scores <= 1)).all()
        assert method.decision_scores(logits_of(method, rows)).shape == scores.shape
        if not method.independent_scores:
            torch.testing.assert_close(scores.sum(dim=1), torch.ones(rows))


def test_a_certain_class_is_decided_for(method: Method) -> None:
    logits = torch.full((K, method.num_columns), -20.0)
    logits[:, method.foreground_columns] += 40 * torch.eye(K)
    if method.num_columns >= K + 2:
        logits[:, -2] = 20.0  # there is an object
    assert method.decision_scores(logits).argmax(dim=1).tolist() == list(range(K))
    assert method.probabilities(logits).argmax(dim=1).tolist() == list(range(K))


def test_a_classifier_starts_from_the_generator_alone(method: Method) -> None:
    first, second = (nn.Linear(9, method.num_columns) for _ in range(2))
    method.init_classifier(first, torch.Generator().manual_seed(3))
    torch.rand(3)
    method.init_classifier(second, torch.Generator().manual_seed(3))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)
    assert first.bias.unique().tolist() == pytest.approx([method.initial_bias])


def test_a_bias_from_the_prior_makes_scores_of_the_classes_shares(method: Method) -> None:
    """In the groups of bags; what post-hoc logit adjustment shifts is shifted again."""
    shares = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05])
    bias = method.prior_bias(shares, 0.25 if method.has_background else 1.0)
    assert bias.shape == (method.num_columns,)
    scores = method.probabilities(bias[None])[0, :K]
    if isinstance(method, METHODS["post_hoc_logit_adjustment"]):
        scores = scores * method.kept("counts")
    groups = method.kept("groups") if isinstance(method, METHODS["bags"]) else torch.zeros(K)
    for group in groups.unique():
        own = groups == group
        expected = shares[own] / shares[own].sum()
        torch.testing.assert_close(scores[own] / scores[own].sum(), expected)


def test_nothing_is_drawn_from_the_global_generator(method: Method) -> None:
    before = torch.get_rng_state()
    train_a_batch(method)
    logits, targets = logits_of(method).detach(), targets_of(method)
    method.plain_loss(logits, targets)
    method.probabilities(logits)
    assert torch.equal(torch.get_rng_state(), before)


def test_settings_of_another_class_are_refused(method: Method) -> None:
    with pytest.raises(TypeError, match=r"settings of .*Settings, but got str"):
        type(method)(K, has_background=True, settings="softmax")  # type: ignore[arg-type]


def test_entries_of_classes_that_nobody_looked_for_say_nothing(method: Method) -> None:
    """Neither to the loss nor to the state, whatever they are; the row's own class counts."""
    targets = targets_of(method)
    columns = torch.arange(len(targets))[:, None] % K != torch.arange(K)
    is_unknown = torch.zeros(len(targets), method.num_columns, dtype=torch.bool)
    is_unknown[:, method.foreground_columns] = ~columns
    is_unknown[torch.arange(len(targets))[targets < K], targets[targets < K]] = False
    assert is_unknown.any(dim=1).sum() > 1

    losses, states = [], []
    for filler in (-2.0, 5.0):
        trained = copy.deepcopy(method)
        context = replace(context_of(len(targets)), columns=columns)  # draws the same each time
        logits = logits_of(method).detach().masked_fill(is_unknown, filler).requires_grad_()
        known = context.without_unknown(logits, targets, method.foreground_columns)
        losses.append(trained.training_loss(known, targets, context))
        losses[-1].sum().backward()
        states.append(trained.state_dict())
        assert (logits.grad[is_unknown] == 0).all()
        assert logits.grad.abs().sum() > 0
    assert torch.equal(*losses)
    assert losses[0].isfinite().all()
    assert_same_state(*states)


def test_all_classes_known_are_no_restriction(method: Method) -> None:
    logits, targets = logits_of(method), targets_of(method)
    everything = replace(context_of(len(targets)), columns=torch.ones(len(targets), K).bool())
    known = everything.without_unknown(logits, targets, method.foreground_columns)
    assert torch.equal(known, logits)
