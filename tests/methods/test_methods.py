"""What a method answers: columns, loss, probabilities. R rows, K classes; K is background."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from made_up_data import made_up_statistics
from torch import Tensor
from torch.nn.functional import cross_entropy

from balms_seg.losses import (
    balanced_sigmoid_loss,
    balanced_softmax_loss_with_background,
    sigmoid_loss,
)
from balms_seg.methods import METHODS, Method, MethodOptions

K, R = 5, 12
STATISTICS = made_up_statistics(K)
BALANCED = ("balanced_softmax", "balanced_sigmoid")
GT_CLASSES = torch.tensor([0, 1, 2, 3, 4, 0, 2, K, K, K, K, K])


def build(name: str, **options: object) -> Method:
    return METHODS[name](K, statistics=STATISTICS, options=MethodOptions(**options))


def logits_for(method: Method, rows: int = R) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, method.num_columns, generator=generator).mul(3).requires_grad_()


def as_float(counts: object) -> Tensor:
    return torch.tensor(np.asarray(counts, np.float32))


@pytest.fixture(params=list(METHODS))
def method(request: pytest.FixtureRequest) -> Method:
    return build(request.param)


@pytest.mark.parametrize(
    ("name", "columns"),
    [("softmax", K + 1), ("balanced_softmax", K + 1), ("sigmoid", K), ("balanced_sigmoid", K)],
)
def test_columns(name: str, columns: int) -> None:
    assert build(name).num_columns == columns


def test_sigmoid_loss_is_the_loss_function() -> None:
    method = build("sigmoid")
    logits = logits_for(method)
    assert torch.equal(method.loss(logits, GT_CLASSES), sigmoid_loss(logits, GT_CLASSES))


def test_softmax_loss_is_cross_entropy() -> None:
    method = build("softmax")
    logits = logits_for(method)
    torch.testing.assert_close(method.loss(logits, GT_CLASSES), cross_entropy(logits, GT_CLASSES))


def test_balanced_sigmoid_loss_takes_the_share_of_images() -> None:
    method = build("balanced_sigmoid")
    logits = logits_for(method)
    frequency = as_float(STATISTICS.image_counts / STATISTICS.num_images)
    expected = balanced_sigmoid_loss(logits, GT_CLASSES, frequency)
    assert torch.equal(method.loss(logits, GT_CLASSES), expected)


@pytest.mark.parametrize("background", ["foreground_only", "neutral", "factored", "prior"])
@pytest.mark.parametrize(
    ("prior", "attribute"),
    [
        ("image", "image_counts"),
        ("instance", "instance_counts"),
        ("sampled", "sampled_counts"),
        ("auto", "instance_counts"),
    ],
)
def test_prior_and_background_reach_the_balanced_softmax_loss(
    prior: str, attribute: str, background: str
) -> None:
    method = build("balanced_softmax", prior=prior, background=background, background_count=7.0)
    logits = logits_for(method)
    expected = balanced_softmax_loss_with_background(
        logits,
        GT_CLASSES,
        as_float(getattr(STATISTICS, attribute)),
        background=background,
        background_count=7.0 if background == "prior" else None,
    )
    assert torch.equal(method.loss(logits, GT_CLASSES), expected)


def test_priors_and_backgrounds_differ() -> None:
    logits = logits_for(build("balanced_softmax"))
    # neutral and factored do not depend on the scale of the counts, in which image and instance
    # differ here
    losses = {
        build("balanced_softmax", prior=prior, background=background, background_count=7.0).loss(
            logits, GT_CLASSES
        )
        for prior in ("image", "instance", "sampled")
        for background in ("foreground_only", "prior")
    }
    losses |= {
        build("balanced_softmax", prior=prior, background=background).loss(logits, GT_CLASSES)
        for prior in ("image", "sampled")
        for background in ("neutral", "factored")
    }
    values = sorted(loss.item() for loss in losses)
    assert min(b - a for a, b in zip(values, values[1:], strict=False)) > 1e-5


def test_a_background_count_is_derived_from_the_proposals_ratio() -> None:
    derived = build("balanced_softmax", prior="instance", background="prior", background_ratio=2.0)
    count = 2.0 * float(STATISTICS.instance_counts.sum())
    given = build("balanced_softmax", prior="instance", background="prior", background_count=count)
    logits = logits_for(given)
    assert torch.equal(derived.loss(logits, GT_CLASSES), given.loss(logits, GT_CLASSES))


@pytest.mark.parametrize("prior", ["instance", "sampled"])
def test_balanced_sigmoid_refuses_priors_that_are_no_share_of_images(prior: str) -> None:
    with pytest.raises(ValueError, match="image"):
        build("balanced_sigmoid", prior=prior)


@pytest.mark.parametrize("name", ["softmax", "balanced_softmax"])
def test_softmax_scores_are_the_plain_softmax(name: str) -> None:
    method = build(name)
    logits = logits_for(method)
    assert torch.equal(method.probabilities(logits), logits.softmax(dim=-1))


@pytest.mark.parametrize("name", ["sigmoid", "balanced_sigmoid"])
def test_sigmoid_scores_are_the_plain_sigmoid_and_no_background(name: str) -> None:
    method = build(name)
    logits = logits_for(method)
    scores = method.probabilities(logits)
    assert scores.shape == (R, K + 1)
    assert torch.equal(scores[:, :K], logits.sigmoid())
    assert torch.equal(scores[:, K], torch.zeros(R))


def test_probabilities_have_a_background_column_also_without_rows(method: Method) -> None:
    assert method.probabilities(logits_for(method, 0)).shape == (0, K + 1)
    assert method.probabilities(logits_for(method)).shape == (R, K + 1)


def test_decision_is_background_where_no_sigmoid_fires() -> None:
    method = build("sigmoid")
    logits = torch.tensor([[-1.0, -2, -3, -0.1, -4], [-1, 0.1, -3, 2, -4]])
    assert method.decision_scores(logits).argmax(dim=1).tolist() == [K, 3]


@pytest.mark.parametrize("name", ["sigmoid", "balanced_sigmoid"])
@pytest.mark.parametrize("probability", [0.001, 0.2])
def test_initial_bias_gives_the_prior_probability(name: str, probability: float) -> None:
    bias = build(name, sigmoid_prior_probability=probability).initial_bias
    assert 1 / (1 + math.exp(-bias)) == pytest.approx(probability)


@pytest.mark.parametrize("name", ["softmax", "balanced_softmax"])
def test_initial_bias_of_softmax_is_zero(name: str) -> None:
    assert build(name).initial_bias == 0


@pytest.mark.parametrize("name", list(METHODS))
def test_statistics_of_another_number_of_classes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{K + 1} classes, but got {K}") as error:
        METHODS[name](K + 1, statistics=STATISTICS)
    assert "MODEL.ROI_HEADS.NUM_CLASSES" in str(error.value)


@pytest.mark.parametrize("name", BALANCED)
def test_without_statistics_only_the_loss_fails_and_says_why(name: str) -> None:
    method = METHODS[name](K, statistics=None)
    logits = logits_for(method)
    assert torch.equal(method.probabilities(logits), build(name).probabilities(logits))
    with pytest.raises(RuntimeError, match=r"ClassStatistics.*DATASETS\.TRAIN"):
        method.loss(logits, GT_CLASSES)


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_unbalanced_methods_need_no_statistics(name: str) -> None:
    method = METHODS[name](K, statistics=None)
    logits = logits_for(method)
    assert torch.equal(method.loss(logits, GT_CLASSES), build(name).loss(logits, GT_CLASSES))


def test_an_empty_batch_gives_zero_with_a_gradient(method: Method) -> None:
    logits = logits_for(method, 0)
    loss = method.loss(logits, torch.empty(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.shape == logits.shape


def test_a_batch_of_background_alone_pushes_every_class_down(method: Method) -> None:
    logits = logits_for(method)
    loss = method.loss(logits, torch.full((R,), K))
    loss.backward()
    assert loss.isfinite()
    assert loss > 0
    assert (logits.grad[:, :K] > 0).all()


def test_background_alone_costs_nothing_once_it_is_certain(method: Method) -> None:
    logits = torch.full((R, method.num_columns), -50.0)
    if method.num_columns > K:
        logits[:, K] = 50
    assert method.loss(logits, torch.full((R,), K)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_is_computed_in_float32_under_autocast(method: Method, dtype: torch.dtype) -> None:
    logits = logits_for(method).detach().to(dtype)
    expected = method.loss(logits.float(), GT_CLASSES)
    with torch.autocast("cpu", dtype=dtype):
        loss = method.loss(logits, GT_CLASSES)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


def test_the_logits_are_left_as_they_are(method: Method) -> None:
    logits = logits_for(method).detach()
    before = logits.clone()
    method.loss(logits, GT_CLASSES)
    method.probabilities(logits)
    method.decision_scores(logits)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("name", BALANCED)
def test_priors_follow_the_device_and_stay_out_of_checkpoints(name: str) -> None:
    method = build(name)
    assert method.state_dict() == {}
    assert [buffer.device.type for buffer in method.to("meta").buffers()] == ["meta"]


def test_the_loss_is_a_mean_over_rows_that_can_be_had_one_by_one(method: Method) -> None:
    logits = logits_for(method)
    rows = method.loss(logits, GT_CLASSES, reduction="none")
    assert rows.shape == (R,)
    assert (rows >= 0).all()
    torch.testing.assert_close(rows.mean(), method.loss(logits, GT_CLASSES))
    torch.testing.assert_close(rows.sum(), method.loss(logits, GT_CLASSES, reduction="sum"))
    part = slice(2, 9)  # a row's loss does not depend on the others
    alone = method.loss(logits[part], GT_CLASSES[part], reduction="none")
    torch.testing.assert_close(alone, rows[part])
    none = method.loss(logits[:0], GT_CLASSES[:0], reduction="none")
    assert none.shape == (0,)
