"""Methods of the field against their authors' code: tests/golden/README.md, zoo_losses.npz.

Three batches, one after the other: what has running state meets it in the second and third.
R rows, K classes; K is background.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from balms_seg import ClassStatistics
from balms_seg.methods import METHODS, LossContext, Method

K, STEPS = 6, 3
with np.load(Path(__file__).parents[1] / "golden" / "zoo_losses.npz") as content:
    GOLDEN = {name: content[name] for name in content.files}
STATISTICS = ClassStatistics(
    image_counts=GOLDEN["image_counts"],
    instance_counts=GOLDEN["instance_counts"],
    num_images=int(GOLDEN["num_images"]),
    class_names=tuple("abcdef"),
    group_names=("rare", "common", "frequent"),
    group_ids=np.ones(K, np.int64),
)
SETTINGS: dict[str, dict[str, Any]] = {
    "droploss": {"threshold": 0.00177},
    "bags": {"others_ratio": 2.0},
    "fcbl_margin": {"alpha": 0.85, "reweigh": False},
    "logn": {"momentum": 0.1},
}


def golden(name: str, step: int) -> Tensor:
    return torch.as_tensor(GOLDEN[name][step])


def build(name: str, **settings: Any) -> Method:
    cls = METHODS[name]
    method = cls(K, has_background=True, settings=cls.Settings(**settings))
    method.prepare(STATISTICS)
    return method


def logits_of(method: Method, step: int, key: str = "logits") -> Tensor:
    return golden(key, step)[:, : method.num_columns].clone().requires_grad_()


def assert_equals_reference(
    name: str, method: Method, step: int, *, logits: str = "logits", targets: str = "targets"
) -> Tensor:
    """Value, gradient and, where the reference has them, scores; returns the logits."""
    rows = logits_of(method, step, logits)
    loss = method.training_loss(rows, golden(targets, step), LossContext()).mean()
    loss.backward()
    torch.testing.assert_close(loss, golden(f"{name}_loss", step))
    torch.testing.assert_close(rows.grad, golden(f"{name}_gradient", step))
    if f"{name}_probabilities" in GOLDEN:
        scores = method.probabilities(rows.detach())
        torch.testing.assert_close(scores, golden(f"{name}_probabilities", step))
    return rows


@pytest.mark.parametrize("name", ["eql", "ecm", "efl", "fcbl"])
def test_a_method_equals_its_reference(name: str) -> None:
    method = build(name)
    for step in range(STEPS):
        assert_equals_reference(name, method, step)


@pytest.mark.parametrize("name", ["droploss", "gol"])
def test_entries_are_dropped_as_the_reference_drops_them_with_the_same_numbers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = build(name, **SETTINGS.get(name, {}))
    for step in range(STEPS):
        noise = golden(f"{name}_noise", step)
        monkeypatch.setattr(method, "_uniform", lambda *_, noise=noise: noise)
        assert_equals_reference(name, method, step)


def test_groups_equal_the_reference_where_the_same_others_are_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = build("bags", **SETTINGS["bags"])
    for step in range(STEPS):
        kept = golden("bags_kept", step)
        monkeypatch.setattr(method, "_kept_rows", lambda *_, kept=kept: kept)
        assert_equals_reference("bags", method, step, logits="bags_logits")


@pytest.mark.parametrize("classes", [6, 4])
def test_the_federated_loss_equals_the_reference_where_the_same_classes_are_drawn(
    classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = build("federated", classes=classes)
    for step in {6: [0], 4: [1, 2]}[classes]:
        if step == 2:  # only here the reference drew among several
            kept = golden("federated_classes", step)
            monkeypatch.setattr(method, "_kept_classes", lambda *_, kept=kept: kept)
        assert_equals_reference("federated", method, step, targets="federated_targets")


def test_margins_alone_equal_the_reference_and_so_do_the_confusions() -> None:
    method = build("fcbl", **SETTINGS["fcbl_margin"])
    for step in range(STEPS):
        assert_equals_reference("fcbl_margin", method, step)
        torch.testing.assert_close(method.confusion, golden("fcbl_margin_confusion", step))
    assert method.rows.tolist() == GOLDEN["fcbl_rows"].tolist()


def test_the_exponents_follow_the_gradients_as_in_the_reference() -> None:
    method = build("efl")
    for step in range(STEPS):
        method.training_loss(logits_of(method, step), golden("targets", step), LossContext())
        torch.testing.assert_close(method.ratio, golden("efl_ratio", step))
    assert method.ratio.max() > 100 * method.ratio.min() > 0


def test_logit_statistics_and_scores_equal_batch_normalisation() -> None:
    method = build("logn", **SETTINGS["logn"])
    for step in range(STEPS):
        logits = logits_of(method, step).detach()
        method.training_loss(logits, golden("targets", step), LossContext())
        torch.testing.assert_close(method.mean, golden("logn_mean", step)[:K])
        torch.testing.assert_close(method.variance, golden("logn_variance", step)[:K])
        scores = method.probabilities(logits)
        torch.testing.assert_close(scores, golden("logn_probabilities", step))


def test_entries_that_nobody_looked_for_are_no_logit_statistics() -> None:
    method, alone = build("logn", momentum=1.0), build("logn", momentum=1.0)
    logits, targets = logits_of(method, 0).detach(), golden("targets", 0)
    columns = torch.ones(len(logits), K, dtype=torch.bool)
    columns[8:, 2] = False
    context = LossContext(columns=columns)
    known = context.without_unknown(logits, targets, method.foreground_columns)
    method.training_loss(known, targets, context)
    alone.training_loss(logits[:8], targets[:8], LossContext())
    torch.testing.assert_close(method.mean[2], alone.mean[2])
    torch.testing.assert_close(method.variance[2], alone.variance[2])
    assert method.mean[1] != alone.mean[1]


def test_a_uniform_number_above_the_share_of_rare_objects_drops_an_entry() -> None:
    """One of four objects is rare: three quarters of the background's entries against it go."""
    method = METHODS["droploss"](2, has_background=True)
    method.keep("is_rare", torch.tensor([False, True]))
    targets = torch.cat([torch.tensor([0, 0, 0, 1]), torch.full((4000,), 2)])
    context = LossContext(generator=torch.Generator().manual_seed(0))
    rows = method.loss(torch.zeros(len(targets), 2), targets, context)
    entry = torch.tensor(2.0).log()
    torch.testing.assert_close(rows[:4], entry * torch.tensor([1.0, 1, 1, 2]))
    dropped = (rows[4:] < 1.5 * entry).double().mean()
    assert dropped == pytest.approx(0.75, abs=0.03)
    objects_only = method.loss(torch.zeros(2, 2), torch.tensor([2, 2]), context)
    torch.testing.assert_close(objects_only, 2 * entry * torch.ones(2))  # no object: nothing goes


def test_federated_classes_are_drawn_by_the_root_of_their_images() -> None:
    method = build("federated", classes=2)
    context = LossContext(generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 0, 0])
    drawn = torch.stack([method._kept_classes(targets, context) for _ in range(4000)]).double()
    assert (drawn.sum(dim=1) == 2).all()
    assert (drawn[:, 0] == 1).all()
    chances = STATISTICS.image_counts[1:] ** 0.5
    expected = torch.tensor(chances / chances.sum())
    torch.testing.assert_close(drawn[:, 1:].mean(dim=0), expected, atol=0.03, rtol=0)


def test_background_counts_for_one_of_the_federated_classes() -> None:
    method = build("federated", classes=3)
    for targets, kept in (([0, K], 2), ([0, 0], 3), ([0, 1, 2, 3, K], 4)):
        assert method._kept_classes(torch.tensor(targets), LossContext()).sum() == kept


def test_groups_keep_their_rows_and_so_many_times_as_many_others() -> None:
    method = build("bags", others_ratio=2.0)
    is_member = torch.zeros(40, 4, dtype=torch.bool)
    is_member[:3, 0] = True
    is_member[3:23, 1] = True
    kept = method._kept_rows(is_member, LossContext(generator=torch.Generator().manual_seed(0)))
    assert kept.sum(dim=0).tolist() == [9, 40, 0, 0]
    assert (kept | ~is_member).all()
    again = method._kept_rows(is_member, LossContext(generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(kept, again)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_automatic_weights_are_powers_of_the_instances_with_mean_one(power: float) -> None:
    method = build("class_weights", power=power)
    logits, targets = logits_of(method, 0).detach(), golden("targets", 0)
    powers = [float(n) ** -power for n in GOLDEN["instance_counts"]]
    weights = [power / (sum(powers) / K) for power in powers] + [1.0]
    rows = method.loss(logits, targets, LossContext())
    for row, target, loss in zip(logits, targets.tolist(), rows, strict=True):
        expected = (row.exp().sum().log() - row[target]) * weights[target]
        torch.testing.assert_close(loss, expected)


def test_weights_by_name_are_of_those_classes_alone() -> None:
    method = build("class_weights", by_name=(("c", 2.5), ("a", 0.5)))
    targets = torch.arange(K + 1)
    plain = torch.nn.functional.cross_entropy(
        logits := torch.rand(K + 1, K + 1), targets, reduction="none"
    )
    weights = method.loss(logits, targets, LossContext()) / plain
    torch.testing.assert_close(weights, torch.tensor([0.5, 1, 2.5, 1, 1, 1, 1]))


@pytest.mark.parametrize("name", ["aa", "A"])
def test_weights_for_a_class_that_does_not_exist_name_the_nearest(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"\(by_name=\.\.\.\)\), but got '{name}'; did you mean 'a'"
    ):
        build("class_weights", by_name=((name, 2.0),))


def test_a_group_without_a_class_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"bounds \(5, 100\) make, but got \[0, 2, 4\]; .* 8 to"):
        build("bags", bounds=(5, 100))


def test_more_federated_classes_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="classes is 7; expected at most 6, as there are"):
        build("federated", classes=7)
