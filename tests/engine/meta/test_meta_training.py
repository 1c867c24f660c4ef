"""Runs with a meta step do what the method says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from detectron2.engine import HookBase
from made_up_data import write_annotated_images
from meta_runs import DECOUPLED, LEARNED, RATES, WEIGHTS, class_values, classifier_weights
from runs import arguments, assert_same_tensors, build_trainer, run_training
from torch import Tensor

from balms_seg.engine import LongTailedTrainer, setup
from balms_seg.losses import sigmoid_loss
from balms_seg.methods import LossContext
from balms_seg.modeling.classifier_rows import ClassifierRows

slow = pytest.mark.slow
BOTH = pytest.mark.parametrize(
    "learned", [WEIGHTS, pytest.param(RATES, marks=slow)], ids=["weights", "rates"]
)


def record_rows(trainer: LongTailedTrainer) -> list[tuple[list[dict], ClassifierRows]]:
    """Batches and their rows, in the order in which the trunk sees them."""
    trunk, seen = trainer._trainer._view, []

    def recording(batch: list[dict]) -> ClassifierRows:
        seen.append((batch, trunk.compute_rows(batch)))
        return seen[-1][1]

    trainer._trainer._view = replace(trunk, compute_rows=recording)
    return seen


def record_values(trainer: LongTailedTrainer) -> list[Tensor]:
    """What is learned, before the first and after every iteration."""
    values = [class_values(trainer)]

    class Values(HookBase):
        def after_step(self) -> None:
            values.append(class_values(self.trainer))

    trainer.register_hooks([Values()])
    return values


def adams_gradient(trainer: LongTailedTrainer) -> Tensor:
    """The only gradient that psi's Adam has had."""
    learner = trainer._trainer.meta.learner
    is_reweighter = hasattr(learner, "reweighter")
    classes = learner.reweighter.classes if is_reweighter else learner.sampler.parameters
    return classes.first_moment / 0.1


def row_weights_by_definition(
    trainer: LongTailedTrainer, psi: Tensor, batch: list[dict], rows: ClassifierRows
) -> Tensor:
    """Row weights as a differentiable function of psi, from their definition."""
    learner = trainer._trainer.meta.learner
    if hasattr(learner, "reweighter"):
        is_foreground = rows.gt_classes < 3
        rates = F.pad(torch.sigmoid(psi), (0, 1))[rows.gt_classes]
        mean = rates[is_foreground].mean()
        return torch.where(is_foreground, rates / mean, torch.ones_like(rates))
    shown = ((0, 1), (0, 2), (0,), (0, 1), (0,), (0,))
    images_with = torch.tensor([6.0, 2.0, 1.0])
    base = (0.7 / (images_with / 6)).sqrt().clamp(min=1)
    rates = base * torch.exp(torch.log(torch.tensor(4.0)) * torch.tanh(psi))
    image_rates = torch.stack([rates[list(classes)].max() for classes in shown])
    probabilities = image_rates / image_rates.sum()
    drawn = torch.tensor([sample["dataset_index"] for sample in batch])
    weights = probabilities[drawn] / probabilities[drawn].detach()
    return weights[rows.images]


@pytest.mark.parametrize("learned", LEARNED.values(), ids=LEARNED)
@pytest.mark.parametrize("objective", ["plain", pytest.param("balanced", marks=slow)])
def test_an_iteration_is_the_bilevel_step_by_autograd(
    objective: str, learned: dict, data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **learned, "SOLVER.MAX_ITER": 1, "META.OBJECTIVE": objective}
    trainer = build_trainer({**settings, "SOLVER.WEIGHT_DECAY": 0.01}, tmp_path)
    seen, start = record_rows(trainer), classifier_weights(trainer)
    layer = trainer.model.roi_heads.box_predictor.cls_score
    method = trainer.model.roi_heads.box_predictor.method
    groups = [
        dict(next(g for g in trainer.optimizer.param_groups if any(p is q for q in g["params"])))
        for p in (layer.weight, layer.bias)
    ]
    trainer.train()
    (batch, rows), (_, meta) = seen
    assert (meta.gt_classes < 3).any()

    psi = torch.zeros(3, requires_grad=True)
    weight, bias = (value.clone().requires_grad_() for value in start.values())
    losses = method.loss(F.linear(rows.features, weight, bias), rows.gt_classes, LossContext())
    weights = row_weights_by_definition(trainer, psi, batch, rows)
    gradient = torch.autograd.grad((weights * losses).mean(), (weight, bias), create_graph=True)
    virtual = [
        value - group["lr"] * (g + group["weight_decay"] * value)
        for value, g, group in zip((weight, bias), gradient, groups, strict=True)
    ]
    logits = F.linear(meta.features, *virtual)
    if objective == "balanced":
        meta_loss = method.loss(logits, meta.gt_classes, LossContext()).mean()
    elif method.num_columns == 3:
        meta_loss = sigmoid_loss(logits, meta.gt_classes)
    else:
        meta_loss = F.cross_entropy(logits, meta.gt_classes)
    if learned is RATES:  # a baseline that the expectation does not depend on, see its own test
        (by_row,) = torch.autograd.grad(meta_loss, weights, retain_graph=True)
        by_image = torch.stack([by_row[rows.images == i].sum() for i in range(2)])
        first_rows = [int((rows.images == i).nonzero()[0]) for i in range(2)]
        meta_loss = meta_loss - (by_image.flip(0) * weights[first_rows]).sum()
    (expected,) = torch.autograd.grad(meta_loss, psi)
    assert expected.abs().max() > 1e-6
    rounding = 1e-3 * expected.abs().max().item()
    torch.testing.assert_close(adams_gradient(trainer).float(), expected, rtol=1e-3, atol=rounding)

    # The real step: weighted by what was just learned, or not at all.
    moved = -0.1 * expected.sign() if learned is WEIGHTS else torch.zeros(3)
    weights = row_weights_by_definition(trainer, moved, batch, rows).detach()
    gradient = torch.autograd.grad((weights * losses).mean(), (weight, bias))
    after = classifier_weights(trainer)
    for name, value, g, group in zip(after, start.values(), gradient, groups, strict=True):
        step = value - group["lr"] * (g + group["weight_decay"] * value)
        torch.testing.assert_close(after[name], step, rtol=1e-4, atol=1e-6)


@BOTH
def test_without_learning_the_run_is_the_static_control(
    learned: dict, data: dict[str, object], tmp_path: Path
) -> None:
    one_iteration = {**data, **learned, "SOLVER.MAX_ITER": 1}
    settings = {**one_iteration, "META.LEARN": "none"}
    control = run_training(settings, tmp_path / "control")
    assert control._trainer.meta is None
    heads = {"MODEL.ROI_HEADS.NAME": "BalancedSigmoidROIHeads"} if learned is WEIGHTS else {}
    plain = run_training({**settings, **heads}, tmp_path / "plain")
    assert_same_tensors(control.model.state_dict(), plain.model.state_dict())
    meta = run_training(one_iteration, tmp_path / "meta")
    assert class_values(meta).unique().numel() > 1
    one, other = classifier_weights(control), classifier_weights(meta)
    assert torch.equal(one["weight"], other["weight"]) == (learned is RATES)


@slow
def test_weights_can_be_learned_in_the_softmax_form(
    data: dict[str, object], tmp_path: Path
) -> None:
    trainer = run_training({**data, **DECOUPLED, "META.LEARN": "weights"}, tmp_path)
    assert trainer.model.roi_heads.box_predictor.cls_score.out_features == 4
    assert class_values(trainer).unique().numel() > 1


@BOTH
def test_a_meta_step_comes_every_period(
    learned: dict, data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **learned, "META.PERIOD": 3, "SOLVER.MAX_ITER": 5}
    trainer = build_trainer(settings, tmp_path)
    values = record_values(trainer)
    trainer.train()
    moved = [not torch.equal(*pair) for pair in zip(values, values[1:], strict=False)]
    assert moved == [True, False, False, True, False]
    consumed = trainer._trainer.meta.batches.loader.stream.consumed
    assert consumed == 2 * trainer.cfg.SOLVER.IMS_PER_BATCH


@slow
def test_the_meta_batch_has_a_size_and_a_stream_of_its_own(
    data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **WEIGHTS, "META.BATCH_SIZE": 3, "SOLVER.MAX_ITER": 1}
    trainer = build_trainer(settings, tmp_path)
    seen = record_rows(trainer)
    trainer.train()
    assert [len(batch) for batch, _ in seen] == [2, 3]
    assert trainer._trainer.meta.batches.loader.seed != trainer._trainer.seed


@BOTH
def test_a_meta_batch_without_foreground_moves_nothing(
    learned: dict, data: dict[str, object], tmp_path: Path
) -> None:
    trainer = build_trainer({**data, **learned}, tmp_path)
    batches = trainer._trainer.meta.batches
    next_rows = batches.next_rows

    def only_background(*args: object) -> ClassifierRows:
        rows = next_rows(*args)
        return rows._replace(gt_classes=torch.full_like(rows.gt_classes, 3))

    batches.next_rows = only_background
    before = class_values(trainer)
    trainer.train()
    assert trainer.iter == 2
    assert torch.equal(class_values(trainer), before)


@BOTH
def test_classes_that_the_meta_set_lacks_keep_their_rate(
    learned: dict, data: dict[str, object], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    write_annotated_images(tmp_path / "meta", ((0, 1), (0,), (0, 1)))
    entry = [tmp_path.name, str(tmp_path / "meta.json"), str(tmp_path / "meta")]
    settings = {
        **data,
        **learned,
        "DATASETS.REGISTER": [*data["DATASETS.REGISTER"], entry],
        "META.DATASET": entry[0],
        "SOLVER.MAX_ITER": 3,
    }
    trainer = build_trainer(settings, tmp_path / "out")
    values = record_values(trainer)
    trainer.train()
    assert values[0][2] == values[-1][2]
    assert values[0][1] != values[-1][1]
    warnings = [m for m in log.messages if "no sample of" in m and "class" in m]
    assert len(warnings) == 1
    assert "class 2" in warnings[0]


def test_a_meta_set_of_other_classes_is_an_error_before_training(
    data: dict[str, object], tmp_path: Path
) -> None:
    content = Path(data["DATASETS.REGISTER"][0][1]).read_text().replace("class 1", "another")
    (tmp_path / "other.json").write_text(content)
    entry = ["meta_set_of_others", str(tmp_path / "other.json"), data["DATASETS.REGISTER"][0][2]]
    settings = {
        **data,
        **WEIGHTS,
        "DATASETS.REGISTER": [*data["DATASETS.REGISTER"], entry],
        "META.DATASET": entry[0],
    }
    with pytest.raises(ValueError, match="meta_set_of_others.*differ in classes"):
        build_trainer(settings, tmp_path / "out")


@BOTH
def test_class_parameters_that_are_not_finite_stop_the_run_and_name_a_class(
    learned: dict, data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **learned, "SOLVER.MAX_ITER": 3, "SOLVER.CHECKPOINT_PERIOD": 1}
    trainer = build_trainer(settings, tmp_path)
    batches = trainer._trainer.meta.batches
    next_rows = batches.next_rows

    def broken(iteration: int, rows_of: object) -> ClassifierRows:
        rows = next_rows(iteration, rows_of)
        value = float("nan") if iteration == 2 else 1.0
        return rows._replace(features=rows.features * value)

    batches.next_rows = broken
    with pytest.raises(FloatingPointError) as error:
        trainer.train()
    message = str(error.value)
    assert "iteration 2" in message
    assert re.search(r"class(es:)? 0 \(class 0\)", message)
    assert "META.LR" in message
    assert class_values(trainer).isfinite().all()
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"


@slow
def test_the_meta_step_is_computed_in_single_precision_under_amp(
    data: dict[str, object], tmp_path: Path
) -> None:
    trainer = build_trainer({**data, **WEIGHTS, "SOLVER.AMP.ENABLED": True}, tmp_path)
    seen = record_rows(trainer)
    trainer.train()
    assert all(rows.features.dtype == torch.float32 for _, rows in seen)
    is_rounded = [(r.features.bfloat16().float() == r.features).float().mean() for _, r in seen]
    assert min(is_rounded) > 0.99  # the trunk did run in bfloat16
    assert class_values(trainer).isfinite().all()
    assert class_values(trainer).unique().numel() > 1


def test_a_run_that_cannot_have_a_meta_step_stops_at_the_configuration(
    data: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"SOLVER\.OPTIMIZER is 'AdamW'"):
        setup(arguments({**data, **WEIGHTS, "SOLVER.OPTIMIZER": "AdamW"}, tmp_path))
    with pytest.raises(ValueError, match=r"MODEL\.TRAIN_ONLY is \[\]"):
        setup(arguments({**data, **WEIGHTS, "MODEL.TRAIN_ONLY": []}, tmp_path))
