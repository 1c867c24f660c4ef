"""What a method for images answers: loss, probabilities, classifier. B images, K classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from balms_seg.class_statistics import ClassStatistics
from balms_seg.losses import (
    balanced_softmax_loss,
    effective_number_weights,
    feature_balanced_loss,
    focal_loss,
    inverse_frequency_weights,
    ldam_loss,
    logit_adjusted_loss,
)
from balms_seg.methods import IMAGE_METHODS, ImageMethod, ImageMethodOptions, TrainingProgress

K, B = 4, 6
COUNTS = torch.tensor([50.0, 20.0, 5.0, 1.0])
STATISTICS = ClassStatistics.from_labels(np.repeat(np.arange(K), COUNTS.long().numpy()), K)
LABELS = torch.tensor([0, 1, 2, 3, 0, 0])
MIDDLE = TrainingProgress(iteration=500, max_iter=1000, epoch=100, max_epoch=200)
END = TrainingProgress(iteration=800, max_iter=1000, epoch=160, max_epoch=200)
every_method = pytest.mark.parametrize("name", list(IMAGE_METHODS))


def build(name: str, **options: object) -> ImageMethod:
    return IMAGE_METHODS[name](K, statistics=STATISTICS, options=ImageMethodOptions(**options))


def logits_of(rows: int = B) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, K, generator=generator).mul(3).requires_grad_()


def features_of(rows: int = B) -> Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(1))


def loss_of(method: ImageMethod, logits: Tensor, labels: Tensor, **kwargs: object) -> Tensor:
    kwargs.setdefault("progress", MIDDLE)
    return method.loss(logits, labels, features=features_of(len(logits)), **kwargs)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("softmax", {}, cross_entropy),
        ("post_hoc_logit_adjustment", {}, cross_entropy),
        ("balanced_softmax", {}, lambda z, y: balanced_softmax_loss(z, y, COUNTS)),
        (
            "logit_adjustment",
            {"logit_adjustment_tau": 1.5},
            lambda z, y: logit_adjusted_loss(z, y, COUNTS, tau=1.5),
        ),
        ("focal", {"focal_gamma": 2.0}, lambda z, y: focal_loss(z, y, gamma=2.0)),
        (
            "class_balanced_weighting",
            {},
            lambda z, y: cross_entropy(z, y, weight=inverse_frequency_weights(COUNTS)),
        ),
        (
            "cb_loss",
            {"cb_beta": 0.99},
            lambda z, y: cross_entropy(z, y, weight=effective_number_weights(COUNTS, beta=0.99)),
        ),
        (
            "ldam",
            {"ldam_max_margin": 0.3, "cosine_scale": 5.0},
            lambda z, y: ldam_loss(z / 5, y, COUNTS, max_margin=0.3, scale=5.0),
        ),
        ("ldam_drw", {}, lambda z, y: ldam_loss(z / 30, y, COUNTS)),
        (
            "feature_balanced",
            {"fbl_lambda": 7.0},
            lambda z, y: feature_balanced_loss(
                z, y, COUNTS, features_of(), strength=7 * (100 / 190) ** 2
            ),
        ),
    ],
)
def test_each_loss_is_its_function(name: str, options: dict, expected: object) -> None:
    logits = logits_of()
    value = loss_of(build(name, **options), logits, LABELS)
    torch.testing.assert_close(value, expected(logits, LABELS))


def test_every_method_is_compared_with_its_function() -> None:
    (mark,) = (m for m in test_each_loss_is_its_function.pytestmark if m.name == "parametrize")
    assert {case[0] for case in mark.args[1]} == set(IMAGE_METHODS)


def test_cb_loss_weighs_the_focal_loss_too() -> None:
    logits = logits_of()
    weights = effective_number_weights(COUNTS)[LABELS]
    rows = focal_loss(logits, LABELS, gamma=2.0, reduction="none")
    method = build("cb_loss", cb_loss="focal", focal_gamma=2.0)
    torch.testing.assert_close(
        loss_of(method, logits, LABELS), (rows * weights).sum() / weights.sum()
    )


def test_reweighting_is_deferred() -> None:
    """Until `drw_start` of the run plain, from it on the weighted mean of the reference."""
    logits = logits_of()
    rows = ldam_loss(logits / 30, LABELS, COUNTS, reduction="none")
    weights = effective_number_weights(COUNTS)[LABELS]
    method = build("ldam_drw")
    before = TrainingProgress(iteration=799, max_iter=1000, epoch=159, max_epoch=200)
    torch.testing.assert_close(loss_of(method, logits, LABELS, progress=before), rows.mean())
    weighted = (rows * weights).sum() / weights.sum()
    torch.testing.assert_close(loss_of(method, logits, LABELS, progress=END), weighted)


@every_method
@pytest.mark.parametrize("progress", [MIDDLE, END])
def test_reductions_agree(name: str, progress: TrainingProgress) -> None:
    method, logits = build(name), logits_of()
    rows = loss_of(method, logits, LABELS, reduction="none", progress=progress)
    assert rows.shape == (B,)
    total = loss_of(method, logits, LABELS, reduction="sum", progress=progress)
    torch.testing.assert_close(total, rows.sum())
    mean = loss_of(method, logits, LABELS, progress=progress)
    torch.testing.assert_close(mean, rows.mean())


@every_method
@pytest.mark.parametrize("progress", [MIDDLE, END])
def test_no_images_give_zero_with_a_gradient(name: str, progress: TrainingProgress) -> None:
    logits = logits_of(0)
    value = loss_of(build(name), logits, LABELS[:0], progress=progress)
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None


@every_method
def test_probabilities_sum_to_one(name: str) -> None:
    probabilities = build(name).probabilities(logits_of().detach())
    assert probabilities.shape == (B, K)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(B))


def test_post_hoc_adjustment_divides_by_the_class_shares() -> None:
    logits = logits_of().detach()
    weighted = logits.softmax(1) / (COUNTS / COUNTS.sum()) ** 0.5
    method = build("post_hoc_logit_adjustment", logit_adjustment_tau=0.5)
    expected = weighted / weighted.sum(1, keepdim=True)
    torch.testing.assert_close(method.probabilities(logits), expected)


@every_method
def test_ldam_alone_is_made_for_cosines(name: str) -> None:
    assert build(name).classifier_kind == ("cosine" if "ldam" in name else "linear")


@pytest.mark.parametrize("name", [n for n, m in IMAGE_METHODS.items() if m.needs_statistics])
def test_a_method_without_statistics_says_so(name: str) -> None:
    method = IMAGE_METHODS[name](K)

    def use() -> None:
        if name == "post_hoc_logit_adjustment":  # whose loss needs none
            method.probabilities(logits_of())
        else:
            loss_of(method, logits_of(), LABELS, progress=END)

    with pytest.raises(RuntimeError, match=r"register the sets in DATASETS\.TRAIN"):
        use()


@every_method
def test_statistics_of_other_classes_name_the_key(name: str) -> None:
    with pytest.raises(ValueError, match=r"MODEL\.IMAGE_CLASSIFIER\.NUM_CLASSES"):
        IMAGE_METHODS[name](K + 1, statistics=STATISTICS)


@pytest.mark.parametrize("what", ["features", "progress"])
def test_a_loss_says_what_it_is_not_given(what: str) -> None:
    given = {"features": features_of(), "progress": MIDDLE, what: None}
    with pytest.raises(ValueError, match=f"reads {what}"):
        build("feature_balanced").loss(logits_of(), LABELS, **given)


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("feature_balanced", {"fbl_alpha": "linear"}, "FBL_ALPHA"),
        ("cb_loss", {"cb_loss": "sigmoid"}, "CB_LOSS"),
    ],
)
def test_an_unknown_form_names_its_key(name: str, options: dict, key: str) -> None:
    with pytest.raises(ValueError, match=rf"MODEL\.IMAGE_CLASSIFIER\.{key}"):
        build(name, **options)


def alpha(epoch: int, *, iteration: int = 0, epochs: float = 200, **options: object) -> float:
    progress = TrainingProgress(iteration, 1000, epoch, epochs)
    return build("feature_balanced", **options).alpha(progress)


def test_released_curriculum() -> None:
    """0 at first, 1 at epoch 190 of 200 and 1.097 in the last."""
    assert alpha(0) == 0
    assert alpha(190) == 1
    assert alpha(199) == pytest.approx(1.097, abs=5e-4)
    assert alpha(95) == 0.25


def test_clipped_curriculum_differs_at_the_end_only() -> None:
    assert alpha(95, fbl_alpha="clipped") == alpha(95)
    assert alpha(199, fbl_alpha="clipped") == 1


def test_a_ramp_counts_iterations() -> None:
    assert alpha(3, iteration=475, epochs=4.2, fbl_ramp=0.95) == 0.25
    assert alpha(4, iteration=999, epochs=4.2, fbl_ramp=0.95) > 1
    assert alpha(4, iteration=999, epochs=4.2, fbl_ramp=0.95, fbl_alpha="clipped") == 1


def test_a_run_too_short_for_the_released_curriculum_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"MODEL\.IMAGE_CLASSIFIER\.FBL_RAMP"):
        alpha(1, epochs=10)


def test_options_come_from_keys_of_the_same_name() -> None:
    names = {name.upper(): value for name, value in vars(ImageMethodOptions()).items()}
    node = {**names, "CB_BETA": 0.9, "OTHER": 1}
    assert ImageMethodOptions.from_config(node) == ImageMethodOptions(cb_beta=0.9)
