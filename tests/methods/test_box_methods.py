"""Each method for boxes is the loss function that it names. R rows, K classes; K is background."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from method_cases import BOX_TARGETS, STATISTICS, K, build, context_of, logits_of, loss_of
from torch import Tensor
from torch.nn.functional import cross_entropy

from balms_seg.losses import (
    balanced_sigmoid_loss,
    balanced_softmax_loss,
    balanced_softmax_loss_with_background,
    effective_number_weights,
    feature_balanced_loss,
    focal_loss,
    inverse_frequency_weights,
    sigmoid_loss,
)
from balms_seg.losses.ldam import ldam_margins
from balms_seg.methods import METHODS, SettingError, TrainingProgress

IS_BACKGROUND = BOX_TARGETS == K


def as_float(counts: object) -> Tensor:
    return torch.tensor(np.asarray(counts, np.float32))


COUNTS = as_float(STATISTICS.instance_counts)


def box_rows(name: str, **settings: object) -> tuple[Tensor, Tensor]:
    """Logits and the losses of the made-up proposals."""
    method = build(name, **settings)
    logits = logits_of(method)
    return logits, loss_of(method, logits, BOX_TARGETS)


def with_mean_weight_one(weights: Tensor) -> Tensor:
    """Class weights by row: mean 1 over the foreground, 1 for background."""
    by_row = torch.ones(len(BOX_TARGETS))
    foreground = weights.float()[BOX_TARGETS[~IS_BACKGROUND]]
    by_row[~IS_BACKGROUND] = foreground / foreground.mean()
    return by_row


@pytest.mark.parametrize(
    ("name", "columns"),
    [("softmax", K + 1), ("balanced_softmax", K + 1), ("sigmoid", K), ("balanced_sigmoid", K)],
)
def test_columns(name: str, columns: int) -> None:
    assert build(name).num_columns == columns


def test_sigmoid_loss_is_the_loss_function() -> None:
    logits, rows = box_rows("sigmoid")
    assert torch.equal(rows, sigmoid_loss(logits, BOX_TARGETS, reduction="none"))


def test_softmax_loss_is_cross_entropy() -> None:
    logits, rows = box_rows("softmax")
    assert torch.equal(rows, cross_entropy(logits, BOX_TARGETS, reduction="none"))


def test_balanced_sigmoid_loss_takes_the_share_of_images() -> None:
    logits, rows = box_rows("balanced_sigmoid")
    frequency = as_float(STATISTICS.image_counts / STATISTICS.num_images)
    expected = balanced_sigmoid_loss(logits, BOX_TARGETS, frequency, reduction="none")
    assert torch.equal(rows, expected)


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
    logits, rows = box_rows(
        "balanced_softmax",
        prior=prior,
        background=background,
        background_count=7.0,
        geometric_mean=0.0,
    )
    expected = balanced_softmax_loss_with_background(
        logits,
        BOX_TARGETS,
        as_float(getattr(STATISTICS, attribute)),
        background=background,
        background_count=7.0 if background == "prior" else None,
        reduction="none",
    )
    assert torch.equal(rows, expected)


def test_priors_and_backgrounds_differ() -> None:
    # neutral and factored do not depend on the scale of the counts, in which image and instance
    # differ here
    scaled, scale_free = ("foreground_only", "prior"), ("neutral", "factored")
    choices = [(prior, b) for prior in ("image", "instance", "sampled") for b in scaled]
    choices += [(prior, b) for prior in ("image", "sampled") for b in scale_free]
    values = sorted(
        box_rows(
            "balanced_softmax",
            prior=prior,
            background=background,
            background_count=7.0,
            geometric_mean=0.0,
        )[1]
        .mean()
        .item()
        for prior, background in choices
    )
    assert min(b - a for a, b in zip(values, values[1:], strict=False)) > 1e-5


def test_a_background_count_is_derived_from_the_proposals_ratio() -> None:
    form = {"prior": "instance", "background": "prior"}
    _, derived = box_rows("balanced_softmax", **form, background_ratio=2.0)
    count = 2.0 * float(STATISTICS.instance_counts.sum())
    _, given = box_rows("balanced_softmax", **form, background_count=count)
    assert torch.equal(derived, given)


def test_a_geometric_mean_makes_the_loss_blind_to_the_size_of_the_data_set() -> None:
    _, losses = box_rows("balanced_softmax", geometric_mean=7.0)
    scaled = build("balanced_softmax", geometric_mean=7.0)
    scaled.prepare(
        dataclasses.replace(STATISTICS, instance_counts=1000 * STATISTICS.instance_counts)
    )
    torch.testing.assert_close(loss_of(scaled, logits_of(scaled), BOX_TARGETS), losses)
    _, neutral = box_rows("balanced_softmax", background="neutral")
    torch.testing.assert_close(box_rows("balanced_softmax", geometric_mean=1.0)[1], neutral)
    own = float(COUNTS.log().mean().exp())
    _, as_counted = box_rows("balanced_softmax", geometric_mean=0.0)
    torch.testing.assert_close(box_rows("balanced_softmax", geometric_mean=own)[1], as_counted)


def test_a_class_without_samples_changes_no_other_ones_count() -> None:
    """Or else a part of LVIS's classes would be trained with background set otherwise."""
    counts = STATISTICS.instance_counts * (np.arange(K) != 1)
    statistics = dataclasses.replace(STATISTICS, instance_counts=counts)
    seen = build("balanced_softmax", geometric_mean=7.0)
    seen.prepare(statistics)
    kept = seen.kept("counts")
    assert kept is not None
    present = counts > 0
    assert float(kept[present].log().mean().exp()) == pytest.approx(7.0)
    ratio = kept[present] / torch.from_numpy(counts[present])
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), check_dtype=False)
    assert float(kept[1]) == pytest.approx(float(ratio[0]))  # as if it had one
    seen.prepare(dataclasses.replace(STATISTICS, instance_counts=0 * counts))
    assert seen.kept("counts").tolist() == pytest.approx([7.0] * K)  # there is no prior


@pytest.mark.parametrize("background", ["neutral", "factored", "prior"])
def test_a_geometric_mean_is_of_the_foreground_alone(background: str) -> None:
    as_counted, scaled = (
        box_rows("balanced_softmax", background=background, geometric_mean=mean)[1]
        for mean in (0.0, 7.0)
    )
    assert torch.equal(as_counted, scaled)


def test_focal_loss_takes_background_for_a_class() -> None:
    logits, rows = box_rows("focal", gamma=2.0)
    assert torch.equal(rows, focal_loss(logits, BOX_TARGETS, gamma=2.0, reduction="none"))


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("class_balanced_weighting", inverse_frequency_weights(COUNTS)),
        ("cb_loss", effective_number_weights(COUNTS)),
    ],
)
def test_class_weights_have_mean_one_over_the_foreground(name: str, weights: Tensor) -> None:
    logits, rows = box_rows(name)
    plain = cross_entropy(logits, BOX_TARGETS, reduction="none")
    torch.testing.assert_close(rows, plain * with_mean_weight_one(weights))
    assert torch.equal(rows[IS_BACKGROUND], plain[IS_BACKGROUND])


def test_background_alone_is_not_weighted() -> None:
    method = build("cb_loss")
    logits = logits_of(method)
    only = torch.full_like(BOX_TARGETS, K)
    assert torch.equal(loss_of(method, logits, only), cross_entropy(logits, only, reduction="none"))


def test_margins_are_of_the_classes_and_not_of_background() -> None:
    logits, rows = box_rows("ldam", max_margin=0.3, scale=5.0)
    margins = torch.cat([ldam_margins(COUNTS, max_margin=0.3), torch.zeros(1)])
    own = torch.nn.functional.one_hot(BOX_TARGETS, K + 1)
    expected = cross_entropy(logits - 5.0 * margins * own, BOX_TARGETS, reduction="none")
    torch.testing.assert_close(rows, expected)
    plain = cross_entropy(logits, BOX_TARGETS, reduction="none")
    torch.testing.assert_close(rows[IS_BACKGROUND], plain[IS_BACKGROUND])


def test_deferred_weights_start_with_the_last_part_of_the_run() -> None:
    method = build("ldam_drw")
    logits = logits_of(method)
    before, after = (
        loss_of(method, logits, BOX_TARGETS, TrainingProgress(iteration, 1000, 2))
        for iteration in (799, 800)
    )
    weights = with_mean_weight_one(effective_number_weights(COUNTS))
    torch.testing.assert_close(after, before * weights)


def test_background_is_as_frequent_as_the_most_frequent_class_to_feature_balanced_loss() -> None:
    logits, rows = box_rows("feature_balanced", strength=7.0, ramp=0.5)
    counts = torch.cat([COUNTS, COUNTS.max()[None]])
    strength = 7 * (750 / 400) ** 2
    features = context_of(len(BOX_TARGETS)).features
    expected = feature_balanced_loss(
        logits, BOX_TARGETS, counts, features, strength=strength, reduction="none"
    )
    torch.testing.assert_close(rows, expected)


def test_logit_adjustment_leaves_foreground_against_background_alone() -> None:
    logits, rows = box_rows("logit_adjustment", tau=1.5)
    foreground = ~IS_BACKGROUND
    given = balanced_softmax_loss(
        logits[foreground, :K], BOX_TARGETS[foreground], COUNTS**1.5, reduction="none"
    )
    against = logits.log_softmax(dim=1)
    is_object = against[:, :K].logsumexp(dim=1)
    torch.testing.assert_close(rows[foreground], given - is_object[foreground])
    torch.testing.assert_close(rows[IS_BACKGROUND], -against[IS_BACKGROUND, K])


def test_post_hoc_adjustment_leaves_backgrounds_logit() -> None:
    method = build("post_hoc_logit_adjustment", tau=0.5)
    logits = logits_of(method).detach()
    weighted = logits.exp()
    weighted[:, :K] /= (COUNTS / COUNTS.sum()) ** 0.5
    expected = weighted / weighted.sum(dim=1, keepdim=True)
    torch.testing.assert_close(method.probabilities(logits), expected)
    assert torch.equal(method.decision_scores(logits), method.probabilities(logits))


@pytest.mark.parametrize("name", ["softmax", "balanced_softmax", "focal", "cb_loss"])
def test_softmax_scores_are_the_plain_softmax(name: str) -> None:
    method = build(name)
    logits = logits_of(method)
    assert torch.equal(method.probabilities(logits), logits.softmax(dim=-1))


@pytest.mark.parametrize("name", ["sigmoid", "balanced_sigmoid"])
def test_sigmoid_scores_are_the_plain_sigmoid_and_no_background(name: str) -> None:
    method = build(name)
    logits = logits_of(method)
    scores = method.probabilities(logits)
    assert torch.equal(scores[:, :K], logits.sigmoid())
    assert torch.equal(scores[:, K], torch.zeros(len(logits)))


def test_decision_is_background_where_no_sigmoid_fires() -> None:
    method = build("sigmoid")
    logits = torch.tensor([[-1.0, -2, -3, -0.1, -4], [-1, 0.1, -3, 2, -4]])
    assert method.decision_scores(logits).argmax(dim=1).tolist() == [K, 3]


@pytest.mark.parametrize("name", ["sigmoid", "balanced_sigmoid"])
@pytest.mark.parametrize("probability", [0.001, 0.2])
def test_initial_bias_gives_the_prior_probability(name: str, probability: float) -> None:
    bias = build(name, prior_probability=probability).initial_bias
    assert 1 / (1 + math.exp(-bias)) == pytest.approx(probability)


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "balanced_softmax", "balanced_sigmoid"])
def test_a_batch_of_background_alone_pushes_every_class_down(name: str) -> None:
    method = build(name)
    logits = logits_of(method)
    loss = loss_of(method, logits, torch.full_like(BOX_TARGETS, K)).mean()
    loss.backward()
    assert loss > 0
    assert (logits.grad[:, :K] > 0).all()


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "balanced_softmax", "balanced_sigmoid"])
def test_background_alone_costs_nothing_once_it_is_certain(name: str) -> None:
    method = build(name)
    logits = torch.full((3, method.num_columns), -50.0)
    if method.num_columns > K:
        logits[:, K] = 50
    rows = loss_of(method, logits, torch.full((3,), K))
    torch.testing.assert_close(rows, torch.zeros(3), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("balanced_softmax", {"prior": "images"}, "prior is 'images'; expected one of auto, image"),
        ("balanced_softmax", {"background": "none"}, "background is 'none'; expected one of fore"),
        (
            "balanced_softmax",
            {"background_count": -1.0},
            "background_count is -1.0; expected a pos",
        ),
        (
            "balanced_softmax",
            {"background_ratio": 0.0},
            "background_ratio is 0.0; expected a posit",
        ),
        ("sigmoid", {"prior_probability": 1.0}, "prior_probability is 1.0; expected a probability"),
        ("focal", {"gamma": -1.0}, "gamma is -1.0; expected 0 or more"),
        ("cb_loss", {"loss": "sigmoid"}, "loss is 'sigmoid'; expected one of softmax, focal"),
        ("cb_loss", {"beta": 1.0}, "beta is 1.0; expected a number in"),
        ("cb_loss", {"gamma": -1.0}, "gamma is -1.0"),
        ("ldam", {"max_margin": -0.5}, "max_margin is -0.5; expected 0 or more"),
        ("ldam_drw", {"scale": 0.0}, "scale is 0.0; expected a number above 0"),
        ("ldam_drw", {"start": 160.0}, "start is 160.0; expected a share of the run"),
        ("ldam_drw", {"beta": -0.1}, "beta is -0.1"),
        ("feature_balanced", {"strength": -60.0}, "strength is -60.0; expected 0 or more"),
        ("feature_balanced", {"alpha": "linear"}, "alpha is 'linear'; expected one of released"),
        ("feature_balanced", {"ramp": 1.5}, "ramp is 1.5; expected a share of the run"),
        ("class_weights", {"power": 1.5}, r"power is 1.5; expected a number in \[0, 1\]"),
        ("class_weights", {"by_name": (("a", 0.0),)}, "expected pairs of a class's name and a pos"),
        ("class_weights", {"by_name": (("a", 1), ("a", 2))}, "expected each name once"),
        ("federated", {"classes": 0}, "classes is 0; expected 1 or more"),
        ("federated", {"power": -0.5}, "power is -0.5; expected 0 or more"),
        ("eql", {"threshold": 1.5}, "threshold is 1.5; expected a share of the images"),
        ("efl", {"alpha": 1.0}, "alpha is 1.0; expected a number in"),
        ("efl", {"gamma": 0.0}, "gamma is 0.0; expected a number above 0"),
        ("ecm", {"background_ratio": 0.0}, "background_ratio is 0.0; expected a number above 0"),
        ("fcbl", {"alpha": -1.0}, "alpha is -1.0; expected 0 or more"),
        ("fcbl", {"threshold": 1.0}, "threshold is 1.0; expected a score in"),
        ("bags", {"bounds": (100, 10)}, r"bounds is \(100, 10\); expected ascending positive"),
        ("bags", {"bounds": ()}, r"bounds is \(\); expected ascending"),
        ("bags", {"others_ratio": 0.0}, "others_ratio is 0.0; expected a number above 0"),
        ("logn", {"momentum": 0.0}, "momentum is 0.0; expected a share in"),
    ],
)
def test_a_setting_that_means_nothing_says_what_it_may_be(
    name: str, settings: dict, message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        METHODS[name].Settings(**settings)
