"""Training the box classifier alone: the short way round gives what the whole model gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from runs import build_trainer, run_training

from balms_seg.engine import LongTailedTrainer
from balms_seg.engine.classifier_step import ClassifierStep
from balms_seg.engine.step import TrainingStep

CLASSIFIER = "roi_heads.box_predictor.cls_score"
DECOUPLED = {
    "MODEL.TRAIN_ONLY": [CLASSIFIER],
    "DATASETS.TEST": (),
    "INPUT.RANDOM_FLIP": "horizontal",
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.BASE_LR": 0.1,
    "SOLVER.CLIP_GRADIENTS.ENABLED": False,
    "SOLVER.MAX_ITER": 20,
}


@pytest.fixture
def whole_model(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Makes trainers take the plain step, forward and backward through everything."""
    monkeypatch.setattr("balms_seg.engine.trainer.find_classifier_view", lambda model: None)
    return monkeypatch


def classifier_weights(trainer: LongTailedTrainer) -> dict[str, torch.Tensor]:
    state = trainer.model.state_dict()
    return {name: state[f"{CLASSIFIER}.{name}"] for name in ("weight", "bias")}


def logged(output: Path) -> dict[str, float]:
    """All that metrics.json holds, the last value of each."""
    lines = (output / "metrics.json").read_text().splitlines()
    return {key: value for line in lines for key, value in json.loads(line).items()}


@pytest.mark.parametrize(
    "more",
    [
        {"SOLVER.MAX_ITER": 4},
        pytest.param({"MODEL.ROI_BOX_HEAD.CLASSIFIER": "balanced_sigmoid"}, marks=pytest.mark.slow),
        pytest.param({"MODEL.ROI_BOX_HEAD.CLASSIFIER": "balanced_softmax"}, marks=pytest.mark.slow),
        pytest.param({"MODEL.PROPOSAL_GENERATOR.NAME": "RPN"}, marks=pytest.mark.slow),
        pytest.param({"SOLVER.OPTIMIZER": "AdamW", "SOLVER.BASE_LR": 0.01}, marks=pytest.mark.slow),
    ],
    ids=["few_steps", "sigmoid", "softmax", "another_rpn", "adamw"],
)
def test_the_classifier_is_that_of_the_whole_model(
    more: dict, data: dict[str, object], tmp_path: Path, whole_model: pytest.MonkeyPatch
) -> None:
    settings = {**data, **DECOUPLED, **more}
    whole = run_training(settings, tmp_path / "whole")
    assert type(whole._trainer) is TrainingStep
    whole_model.undo()
    start = classifier_weights(build_trainer(settings, tmp_path / "start"))
    alone = run_training(settings, tmp_path / "alone")
    assert type(alone._trainer) is ClassifierStep

    expected, weights = classifier_weights(whole), classifier_weights(alone)
    for name in expected:
        assert (expected[name] - start[name]).abs().max() > 0.001
        torch.testing.assert_close(weights[name], expected[name], rtol=1e-4, atol=1e-6)
    others = [state for state in (alone, whole)]
    rest = [
        {k: v for k, v in t.model.state_dict().items() if not k.startswith(CLASSIFIER)}
        for t in others
    ]
    assert all(torch.equal(rest[0][name], rest[1][name]) for name in rest[0])


def test_what_cannot_reach_the_classifier_is_not_computed(
    data: dict[str, object], tmp_path: Path
) -> None:
    trainer = build_trainer({**data, **DECOUPLED, "SOLVER.MAX_ITER": 2}, tmp_path)
    heads = trainer.model.roi_heads

    def fail(*args: object) -> None:
        raise AssertionError("must not run")

    for module in (heads.mask_head, heads.mask_pooler, heads.box_predictor.bbox_pred):
        module.register_forward_pre_hook(fail)
    heads.box_predictor.cls_score.register_forward_pre_hook(
        lambda module, args: [assert_is_constant(value) for value in args] and None
    )
    trainer.train()
    assert trainer.iter == 2


def assert_is_constant(value: torch.Tensor) -> None:
    assert not value.requires_grad


def test_loss_and_accuracies_are_logged_as_in_other_runs(
    data: dict[str, object], tmp_path: Path, whole_model: pytest.MonkeyPatch
) -> None:
    settings = {**data, **DECOUPLED, "SOLVER.MAX_ITER": 1}
    run_training(settings, tmp_path / "whole")
    whole_model.undo()
    run_training(settings, tmp_path / "alone")
    whole, alone = logged(tmp_path / "whole"), logged(tmp_path / "alone")
    shared = {key for key in whole if key.startswith(("fast_rcnn/", "roi_head/"))} | {"lr"}
    assert len(shared) >= 5
    for key in shared:
        assert alone[key] == whole[key], key
    assert alone["loss_cls"] == alone["total_loss"] == pytest.approx(whole["loss_cls"], rel=1e-5)
    assert {"data_time", "iteration"} <= alone.keys()
    assert not {"loss_mask", "loss_rpn_cls", "loss_box_reg"} & alone.keys()


@pytest.mark.parametrize(
    "patterns",
    [
        ["roi_heads.box_predictor"],
        pytest.param([], marks=pytest.mark.slow),
        pytest.param([CLASSIFIER, "roi_heads.box_head"], marks=pytest.mark.slow),
    ],
)
def test_more_than_the_classifier_takes_the_whole_model(
    patterns: list[str], data: dict[str, object], tmp_path: Path
) -> None:
    trainer = build_trainer({**data, "MODEL.TRAIN_ONLY": patterns}, tmp_path)
    assert type(trainer._trainer) is TrainingStep


@pytest.mark.parametrize("frozen_norm", ["eval", "train"])
def test_frozen_statistics_follow_the_batches_only_where_asked(
    frozen_norm: str, data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **DECOUPLED, "SOLVER.MAX_ITER": 1, "MODEL.FROZEN_NORM": frozen_norm}
    trainer = build_trainer(settings, tmp_path)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    after = trainer.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    statistics = {name for name in before if ".running_" in name and name.startswith("backbone.")}
    assert bool(statistics & changed) == (frozen_norm == "train")
    assert changed - {f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"} == (
        {name for name in changed if "running_" in name or "num_batches" in name}
    )


@pytest.mark.parametrize("is_main", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_loss_that_is_not_finite_stops_every_rank_before_the_weights_change(
    is_main: bool, data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build_trainer({**data, **DECOUPLED}, tmp_path)
    method = trainer.model.roi_heads.box_predictor.method
    loss = method.training_loss
    method.training_loss = lambda *args, **kwargs: loss(*args, **kwargs) * float("nan")
    before = {name: value.clone() for name, value in classifier_weights(trainer).items()}
    monkeypatch.setattr("detectron2.utils.comm.is_main_process", lambda: is_main)
    with pytest.raises(FloatingPointError, match="iteration 0: loss_cls is not finite"):
        trainer.train()
    assert all(torch.equal(v, before[name]) for name, v in classifier_weights(trainer).items())
