"""The meta step on whole images: what it computes, and that a stopped run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from image_runs import BANK, META_RUNS, RATES, WEIGHTS, build_image_trainer, run_image_training
from image_sets import TRAIN_COUNTS, write_image_sets
from meta_runs import assert_equal_states, class_values
from runs import assert_same_tensors, read_checkpoint
from torch import Tensor

from balms_seg.engine.meta.meta_step import loss_and_residuals


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return write_image_sets(tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize(
    "name",
    ["score", *(pytest.param(n, marks=pytest.mark.slow) for n in META_RUNS if n != "score")],
)
def test_a_resumed_run_repeats_the_uninterrupted_one(
    name: str, images: dict, tmp_path: Path
) -> None:
    settings = {**images, **META_RUNS[name], "SOLVER.MAX_ITER": 5, "SOLVER.CHECKPOINT_PERIOD": 2}
    straight = run_image_training(settings, tmp_path / "straight")
    halves = tmp_path / "halves"
    halves.mkdir()
    checkpoint = read_checkpoint(tmp_path / "straight" / "model_0000001.pth")
    torch.save(checkpoint, halves / "model_0000001.pth")
    (halves / "last_checkpoint").write_text("model_0000001.pth")
    resumed = run_image_training(settings, halves, "--resume")
    assert_same_tensors(straight.model.state_dict(), resumed.model.state_dict())
    assert_equal_states(
        straight._trainer.state_dict()["meta"], resumed._trainer.state_dict()["meta"]
    )
    assert torch.equal(class_values(straight), class_values(resumed))
    start = build_image_trainer(settings, tmp_path / "start")
    assert (class_values(straight) - class_values(start)).abs().min() > 1e-4


def test_the_meta_gradient_is_autograds(images: dict, tmp_path: Path) -> None:
    """Balanced Softmax one virtual step ahead, plain cross-entropy on the meta batch.

    With the momentum of four iterations; their schedule ended at a learning rate of 0.
    """
    trainer = run_image_training({**images, **RATES}, tmp_path)
    step = trainer._trainer
    for group in step.optimizer.param_groups:
        group["lr"] = 0.3
    layer, counts = trainer.model.classifier, torch.tensor(TRAIN_COUNTS).double()
    batch = next(step._data_loader_iter)
    rows = step._rows_of(batch, step.seed)
    meta_batches: list = []
    next_rows = step.meta.batches.next_rows
    step.meta.batches.next_rows = lambda *args: (
        meta_batches.append(next_rows(*args)) or (meta_batches[-1])
    )
    given: list[Tensor] = []
    learn = step.meta.learner.learn
    step.meta.learner.learn = lambda b, r, gradient: given.append(gradient) or learn(b, r, gradient)
    features, targets = rows.features.double(), rows.gt_classes

    weight, bias = (p.detach().double().requires_grad_() for p in layer.parameters())
    by_row = torch.ones(len(batch), dtype=torch.float64, requires_grad=True)
    losses = F.cross_entropy(
        F.linear(features, weight, bias) + counts.log(), targets, reduction="none"
    )
    loss = (by_row * losses).mean()
    gradients = torch.autograd.grad(loss, (weight, bias), create_graph=True)
    virtual = []
    for parameter, ours, gradient in zip(
        layer.parameters(), (weight, bias), gradients, strict=True
    ):
        (group,) = (
            g for g in step.optimizer.param_groups if any(p is parameter for p in g["params"])
        )
        direction = gradient + group["weight_decay"] * ours
        velocity = 0.9 * step.optimizer.state[parameter]["momentum_buffer"].double() + direction
        moved = direction + 0.9 * velocity if group["nesterov"] else velocity
        virtual.append(ours - group["lr"] * moved)

    _, residuals = loss_and_residuals(
        lambda leaf: step._view.losses(leaf, rows), layer(rows.features)
    )
    step.meta.row_weights(
        0,
        batch,
        rows,
        residuals=residuals,
        normaliser=torch.tensor(len(batch)),
        rows_of=step._rows_of,
    )
    (meta,) = meta_batches
    meta_loss = F.cross_entropy(F.linear(meta.features.double(), *virtual), meta.gt_classes)
    (expected,) = torch.autograd.grad(meta_loss, by_row)
    torch.testing.assert_close(given[0].double(), expected, rtol=1e-4, atol=1e-9)
    assert expected.abs().max() > 1e-6


def test_statistics_follow_training_batches_and_no_meta_batch(images: dict, tmp_path: Path) -> None:
    """Meta batches are of other classes, and the classifier is trained on none of them."""
    runs = [
        run_image_training({**images, **WEIGHTS, "META.LEARN": learn}, tmp_path / learn)
        for learn in ("weights", "none")
    ]
    learned, plain = (run.model.state_dict() for run in runs)
    name = "backbone.stem_norm.running_mean"
    start = build_image_trainer({**images, **WEIGHTS}, tmp_path / "start").model.state_dict()
    assert torch.equal(learned[name], plain[name])
    assert not torch.equal(learned[name], start[name])
    assert not torch.equal(learned["classifier.weight"], plain["classifier.weight"])


def test_features_without_normalisation_by_the_batch_do_not_age(
    images: dict, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"MODEL\.FROZEN_NORM.*feature_bank needs eval"):
        build_image_trainer({**images, **RATES, **BANK, "MODEL.FROZEN_NORM": "train"}, tmp_path)


def test_the_bank_holds_images_of_each_class(images: dict, tmp_path: Path) -> None:
    trainer = run_image_training({**images, **META_RUNS["rates_bank"]}, tmp_path)
    sizes = trainer._trainer.meta.batches.bank.sizes
    assert sizes.sum() == 4 * 4
    assert sizes[-1] == 0


def test_a_cosine_classifier_is_refused(images: dict, tmp_path: Path) -> None:
    settings = {**images, **RATES, "MODEL.IMAGE_CLASSIFIER.CLASSIFIER": "cosine"}
    with pytest.raises(TypeError, match=r"nn\.Linear with a bias"):
        build_image_trainer(settings, tmp_path)
