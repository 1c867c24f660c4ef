"""What a method for images answers: loss, probabilities, classifier. B images, K classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from balms_seg.class_statistics import ClassStatistics
from balms_seg.losses import (
    balanced_sigmoid_loss,
    balanced_softmax_loss,
    effective_number_weights,
    feature_balanced_loss,
    focal_loss,
    inverse_frequency_weights,
    ldam_loss,
    logit_adjusted_loss,
    sigmoid_loss,
)
from balms_seg.methods import METHODS, LossContext, Method, TrainingProgress

K, B = 4, 6
COUNTS = torch.tensor([50.0, 20.0, 5.0, 1.0])
STATISTICS = ClassStatistics.from_labels(np.repeat(np.arange(K), COUNTS.long().numpy()), K)
RARITY = (1 / COUNTS).mean()
LABELS = torch.tensor([0, 1, 2, 3, 0, 0])
IMAGES = int(COUNTS.sum())  # so many iterations of one image are an epoch
MIDDLE = TrainingProgress(iteration=100 * IMAGES, max_iter=200 * IMAGES, images_per_batch=1)
END = TrainingProgress(iteration=160 * IMAGES, max_iter=200 * IMAGES, images_per_batch=1)


def build(name: str, **settings: object) -> Method:
    cls = METHODS[name]
    method = cls(K, has_background=False, settings=cls.Settings(**settings))
    method.prepare(STATISTICS)
    return method


def logits_of(rows: int = B) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, K, generator=generator).mul(3).requires_grad_()


def features_of(rows: int = B) -> Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(1))


def loss_of(
    method: Method, logits: Tensor, labels: Tensor, progress: TrainingProgress = MIDDLE
) -> Tensor:
    context = LossContext(features_of(len(logits)), progress)
    return method.loss(logits, labels, context).mean()


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("softmax", {}, cross_entropy),
        ("post_hoc_logit_adjustment", {}, cross_entropy),
        ("sigmoid", {}, lambda z, y: sigmoid_loss(z, y)),
        ("balanced_sigmoid", {}, lambda z, y: balanced_sigmoid_loss(z, y, COUNTS / COUNTS.sum())),
        ("balanced_softmax", {}, lambda z, y: balanced_softmax_loss(z, y, COUNTS)),
        (
            "logit_adjustment",
            {"tau": 1.5},
            lambda z, y: logit_adjusted_loss(z, y, COUNTS, tau=1.5),
        ),
        ("focal", {"gamma": 2.0}, lambda z, y: focal_loss(z, y, gamma=2.0)),
        (
            "class_balanced_weighting",
            {},
            lambda z, y: cross_entropy(z, y, weight=inverse_frequency_weights(COUNTS)),
        ),
        (
            "cb_loss",
            {"beta": 0.99},
            lambda z, y: cross_entropy(z, y, weight=effective_number_weights(COUNTS, beta=0.99)),
        ),
        (
            "ldam",
            {"max_margin": 0.3, "scale": 5.0},
            lambda z, y: ldam_loss(z / 5, y, COUNTS, max_margin=0.3, scale=5.0),
        ),
        ("ldam_drw", {}, lambda z, y: ldam_loss(z / 30, y, COUNTS)),
        (
            "feature_balanced",
            {"strength": 7.0},
            lambda z, y: feature_balanced_loss(
                z, y, COUNTS, features_of(), strength=7 * (100 / 190) ** 2
            ),
        ),
        (
            "class_weights",
            {"power": 1.0},
            lambda z, y: (cross_entropy(z, y, reduction="none") / (COUNTS * RARITY)[y]).mean(),
        ),
        ("federated", {"classes": K}, lambda z, y: sigmoid_loss(z, y)),
        ("eql", {"threshold": 0.1}, lambda z, y: zoo_loss("eql", z, y)),
        ("droploss", {"threshold": 0.1}, lambda z, y: zoo_loss("droploss", z, y)),
        ("gol", {"threshold": 0.1}, lambda z, y: zoo_loss("gol", z, y)),
        ("ecm", {}, lambda z, y: zoo_loss("ecm", z, y)),
    ],
)
def test_each_loss_is_its_function(name: str, options: dict, expected: object) -> None:
    logits = logits_of()
    value = loss_of(build(name, **options), logits, LABELS)
    torch.testing.assert_close(value, expected(logits, LABELS))


def test_every_stateless_method_is_compared_with_its_function() -> None:
    (mark,) = (m for m in test_each_loss_is_its_function.pytestmark if m.name == "parametrize")
    compared = {case[0] for case in mark.args[1]}
    stateless = {name for name, method in METHODS.items() if not method.has_state}
    assert compared == stateless - {"bags"}


def test_groups_of_images_compete_among_themselves_and_with_others() -> None:
    """Counts 50 and 20 | 5 and 1; every row is an object, and all rows of "others" are taken."""
    method = build("bags", bounds=(10,), others_ratio=100.0)
    logits = torch.randn(B, K + 2, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(())
    for group, (first, second) in enumerate([(2, 3), (0, 1)]):
        columns = [K + group, first, second]
        own = torch.tensor([columns.index(y) if y in columns else 0 for y in LABELS.tolist()])
        expected = expected + cross_entropy(logits[:, columns], own)
        scores = method.probabilities(logits)[:, [first, second]]
        torch.testing.assert_close(scores, logits[:, columns].softmax(dim=1)[:, 1:])
    torch.testing.assert_close(loss_of(method, logits, LABELS), expected)


def zoo_loss(name: str, z: Tensor, y: Tensor) -> Tensor:
    """Mean over rows of sums over entries, one after the other; classes 2 and 3 are rare."""
    total = torch.zeros((), dtype=torch.float64)
    for row, label in zip(z.double(), y.tolist(), strict=True):
        for column in range(K):
            is_own, n = column == label, COUNTS[column].double()
            others = COUNTS.sum() - n
            p = torch.exp(-torch.exp(-row[column].clamp(-4, 10)))
            if name != "gol":
                margin = (n / others).log() / 4 if name == "ecm" else 0
                p = torch.sigmoid((2 if name == "ecm" else 1) * row[column] + margin)
            ratio = others / n
            weight = ratio * ((1 + ratio) / ratio).log() if name == "ecm" else 1
            if name != "ecm" and column in (2, 3) and not is_own:
                weight = 0
            total = total - weight * (p if is_own else 1 - p).log()
    return (total / len(z)).float()


def test_cb_loss_weighs_the_focal_loss_too() -> None:
    logits = logits_of()
    weights = effective_number_weights(COUNTS)[LABELS]
    rows = focal_loss(logits, LABELS, gamma=2.0, reduction="none")
    method = build("cb_loss", loss="focal", gamma=2.0)
    torch.testing.assert_close(
        loss_of(method, logits, LABELS), (rows * weights).sum() / weights.sum()
    )


def test_reweighting_is_deferred() -> None:
    """Until `drw_start` of the run plain, from it on the weighted mean of the reference."""
    logits = logits_of()
    rows = ldam_loss(logits / 30, LABELS, COUNTS, reduction="none")
    weights = effective_number_weights(COUNTS)[LABELS]
    method = build("ldam_drw")
    before = TrainingProgress(END.iteration - 1, END.max_iter, END.images_per_batch)
    torch.testing.assert_close(loss_of(method, logits, LABELS, progress=before), rows.mean())
    weighted = (rows * weights).sum() / weights.sum()
    torch.testing.assert_close(loss_of(method, logits, LABELS, progress=END), weighted)


def test_post_hoc_adjustment_divides_by_the_class_shares() -> None:
    logits = logits_of().detach()
    weighted = logits.softmax(1) / (COUNTS / COUNTS.sum()) ** 0.5
    method = build("post_hoc_logit_adjustment", tau=0.5)
    expected = weighted / weighted.sum(1, keepdim=True)
    torch.testing.assert_close(method.probabilities(logits), expected)


@pytest.mark.parametrize(("key", "tau"), [("logit_adjusted", 1.0), ("logit_adjusted_half", 0.5)])
def test_post_hoc_adjustment_equals_the_reference(key: str, tau: float) -> None:
    with np.load(Path(__file__).parents[1] / "golden" / "image_losses.npz") as golden:
        cases = [golden[name] for name in ("counts", "logits", f"{key}_post_hoc")]
    for counts, logits, expected in zip(*cases, strict=True):
        cls = METHODS["post_hoc_logit_adjustment"]
        method = cls(len(counts), has_background=False, settings=cls.Settings(tau=tau))
        labels = np.repeat(np.arange(len(counts)), counts)
        method.prepare(ClassStatistics.from_labels(labels, len(counts)))
        scores = method.probabilities(torch.as_tensor(logits))
        torch.testing.assert_close(scores, torch.as_tensor(expected).float())


@pytest.mark.parametrize("name", list(METHODS))
def test_methods_are_made_for_cosines_where_the_source_has_them(name: str) -> None:
    method = METHODS[name](K, has_background=False)
    cosine = ("ldam", "ldam_drw", "seesaw", "ecm")
    assert method.classifier_kind == ("cosine" if name in cosine else "linear")
    assert method.cosine_scale == (30 if "ldam" in name else None)


@pytest.mark.parametrize("what", ["features", "progress"])
def test_a_loss_says_what_it_is_not_given(what: str) -> None:
    given = {"features": features_of(), "progress": MIDDLE, what: None}
    with pytest.raises(ValueError, match=f"FeatureBalanced reads {what}"):
        build("feature_balanced").loss(logits_of(), LABELS, LossContext(**given))


def alpha_at(epoch: int, *, later: int = 0, epochs: int = 200, **settings: object) -> float:
    progress = TrainingProgress(epoch * IMAGES + later, epochs * IMAGES, images_per_batch=1)
    return build("feature_balanced", **settings).alpha(progress)


def test_released_curriculum() -> None:
    """0 at first, 1 at epoch 190 of 200 and 1.097 in the last; an epoch through the same."""
    assert alpha_at(0) == 0
    assert alpha_at(190) == 1
    assert alpha_at(199) == pytest.approx(1.097, abs=5e-4)
    assert alpha_at(95) == alpha_at(95, later=IMAGES - 1) == 0.25


def test_clipped_curriculum_differs_at_the_end_only() -> None:
    assert alpha_at(95, alpha="clipped") == alpha_at(95)
    assert alpha_at(199, alpha="clipped") == 1


def test_a_ramp_counts_iterations() -> None:
    """Of 4 epochs of 76 images, 152 iterations are half of the run and a ramp of it."""
    assert alpha_at(1, epochs=4, ramp=0.5) == 0.25
    assert alpha_at(3, epochs=4, ramp=0.5) > 1
    assert alpha_at(3, epochs=4, ramp=0.5, alpha="clipped") == 1


def test_a_run_too_short_for_the_released_curriculum_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"MODEL\.METHODS\.FEATURE_BALANCED\.RAMP"):
        alpha_at(1, epochs=10)
