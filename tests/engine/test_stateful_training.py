"""Running state of a method in a run: counted once, kept by checkpoints, the same on all ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gloo_ranks import gloo_rank
from meta_runs import BANK, DECOUPLED
from runs import assert_same_tensors, build_trainer, read_checkpoint, run_training
from torch import Tensor, nn

from balms_seg.engine import LongTailedTrainer, train
from balms_seg.engine.launch import _create_local_group
from balms_seg.methods import METHODS, Method

STATEFUL = [name for name, method in METHODS.items() if method.has_state]
# Those of eqlv2 and efl are added up as seesaw's counts are.
ONE_OF_A_KIND = [
    pytest.param(name, marks=pytest.mark.slow) if name in ("eqlv2", "efl") else name
    for name in STATEFUL
]
EVERY_ITERATION = {"TEST.EVAL_PERIOD": 1, "SOLVER.MAX_ITER": 3}
LINEAR = {"MODEL.ROI_BOX_HEAD.CLASSIFIER_LAYER": "linear"}
SEESAW = {"MODEL.ROI_BOX_HEAD.CLASSIFIER": "seesaw", **LINEAR}


def method_of(model: nn.Module) -> Method:
    return model.roi_heads.box_predictor.method


def trained_targets(trainer: LongTailedTrainer) -> list[Tensor]:
    """Train, and note the classes of the rows of every call of the training loss."""
    method, seen = method_of(trainer.model), []
    training_loss = method.training_loss

    def noting(logits: Tensor, targets: Tensor, context: object) -> Tensor:
        seen.append(targets)
        return training_loss(logits, targets, context)

    method.training_loss = noting
    train(trainer)
    return seen


def assert_counted_once(trainer: LongTailedTrainer) -> None:
    seen = trained_targets(trainer)
    assert len(seen) == trainer.max_iter
    counts = torch.bincount(torch.cat(seen), minlength=4)[:3]
    assert torch.equal(method_of(trainer.model).counts, counts)
    assert counts.sum() > 0


@pytest.mark.parametrize("extra", [{}, {"SOLVER.EMA_DECAY": 0.5}], ids=["plain", "averaged"])
def test_evaluations_count_nothing(data: dict, tmp_path: Path, extra: dict) -> None:
    assert_counted_once(build_trainer({**data, **SEESAW, **EVERY_ITERATION, **extra}, tmp_path))


@pytest.mark.parametrize(
    ("objective", "source"), [("plain", BANK), ("balanced", {})], ids=["plain-bank", "balanced"]
)
def test_a_meta_step_counts_nothing(
    data: dict, tmp_path: Path, objective: str, source: dict
) -> None:
    meta = {"META.LEARN": "weights", "META.OBJECTIVE": objective, "SOLVER.MAX_ITER": 3}
    trainer = build_trainer({**data, **DECOUPLED, **SEESAW, **source, **meta}, tmp_path)
    before = trainer._trainer.meta.learner.values()
    assert_counted_once(trainer)
    assert not torch.equal(trainer._trainer.meta.learner.values(), before)  # a step was made


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_a_resumed_run_goes_on_with_the_state(data: dict, tmp_path: Path, name: str) -> None:
    settings = {
        **data,
        **LINEAR,
        "DATASETS.TEST": (),
        "MODEL.ROI_BOX_HEAD.CLASSIFIER": name,
        "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
        "SOLVER.STEPS": (),
        "SOLVER.MAX_ITER": 4,
    }
    straight = run_training(settings, tmp_path / "straight")
    run_training({**settings, "SOLVER.MAX_ITER": 2}, tmp_path / "halves")
    resumed = run_training(settings, tmp_path / "halves", "--resume")
    assert_same_tensors(straight.model.state_dict(), resumed.model.state_dict())
    state = method_of(straight.model).state_dict()
    saved = read_checkpoint(tmp_path / "straight" / "model_final.pth")["model"]
    prefix = "roi_heads.box_predictor.method."
    assert {key.removeprefix(prefix) for key in saved if key.startswith(prefix)} == set(state)
    assert all(value.abs().sum() > 0 for value in state.values())


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_the_step_of_the_classifier_alone_has_the_state_of_the_whole_models(
    data: dict, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        **data,
        **DECOUPLED,
        **LINEAR,
        "MODEL.ROI_BOX_HEAD.CLASSIFIER": name,
        "SOLVER.MAX_ITER": 3,
    }
    alone = run_training(settings, tmp_path / "alone")
    monkeypatch.setattr("balms_seg.engine.trainer.find_classifier_view", lambda model: None)
    whole = run_training(settings, tmp_path / "whole")
    for key, value in method_of(whole.model).state_dict().items():
        torch.testing.assert_close(method_of(alone.model).state_dict()[key], value)


def test_a_method_without_a_plain_loss_has_no_plain_meta_step(
    data: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(METHODS["seesaw"], "plain_loss", Method.plain_loss)
    settings = {**data, **DECOUPLED, **SEESAW, "META.LEARN": "weights"}
    with pytest.raises(ValueError, match=r"META\.OBJECTIVE is plain, but Seesaw has no loss with"):
        build_trainer(settings, tmp_path / "plain")
    build_trainer({**settings, "META.OBJECTIVE": "balanced"}, tmp_path / "balanced")


def train_on_rank(rank: int, settings: dict, folder: str) -> None:
    with gloo_rank(rank, folder):
        _create_local_group(2)
        trainer = run_training(settings, Path(folder) / "two")
        torch.save(method_of(trainer.checkpointer.model).state_dict(), f"{folder}/{rank}.pth")


@pytest.mark.slow
@pytest.mark.parametrize("name", STATEFUL)
def test_two_ranks_end_with_the_state_of_one_process(data: dict, tmp_path: Path, name: str) -> None:
    settings = {
        **data,
        **DECOUPLED,
        **LINEAR,
        "MODEL.ROI_BOX_HEAD.CLASSIFIER": name,
        "SOLVER.MAX_ITER": 4,
    }
    one = run_training(settings, tmp_path / "one")
    torch.multiprocessing.spawn(train_on_rank, (settings, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pth") for rank in range(2))
    for key, value in method_of(one.model).state_dict().items():
        assert torch.equal(first[key], second[key])
        torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-6)
