"""Detectors on the device: training, resume, evaluation; and that a mistake is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import build_trainer, run_evaluation, run_training

from balms_seg.engine import LongTailedTrainer, train
from balms_seg.methods import METHODS

CUDA = {"MODEL.DEVICE": "cuda", "SOLVER.MAX_ITER": 2}
ON_IT = ("--num-gpus", "1")
SGD = {"SOLVER.OPTIMIZER": "SGD", "SOLVER.BASE_LR": 0.01}
SCENARIOS: dict[str, dict[str, object]] = {
    "softmax": {"MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax", **SGD},
    "balanced_softmax": {"MODEL.ROI_BOX_HEAD.CLASSIFIER": "balanced_softmax"},
    "sigmoid": {"MODEL.ROI_BOX_HEAD.CLASSIFIER": "sigmoid"},
    "balanced_sigmoid": {"MODEL.ROI_BOX_HEAD.CLASSIFIER": "balanced_sigmoid"},
    "cascade": {
        "MODEL.ROI_HEADS.NAME": "CascadeLongTailedROIHeads",
        "MODEL.ROI_BOX_HEAD.CLASSIFIER": "balanced_softmax",
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 50,
    },
    "float16": {"SOLVER.AMP.ENABLED": True, "SOLVER.CLIP_GRADIENTS.ENABLED": True},
    "bfloat16": {"SOLVER.AMP.ENABLED": True, "SOLVER.AMP.DTYPE": "bfloat16"},
    "average_and_augmentation": {
        "SOLVER.EMA_DECAY": 0.9,
        "TEST.AUG.ENABLED": True,
        "TEST.AUG.MIN_SIZES": (64, 80),
    },
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_trains_and_evaluates(scenario: str, data: dict[str, object], tmp_path: Path) -> None:
    trainer = run_training({**data, **CUDA, **SCENARIOS[scenario]}, tmp_path, *ON_IT)
    assert {p.device.type for p in trainer.model.parameters()} == {"cuda"}
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    assert trainer._last_eval_results["bbox"].keys() >= {"AP", "APr", "APc", "APf"}
    is_scaled = scenario == "float16"
    assert trainer._trainer.grad_scaler.is_enabled() == is_scaled


def test_a_resumed_run_ends_as_the_uninterrupted_one(
    data: dict[str, object], tmp_path: Path
) -> None:
    same_rates = {"SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR", "SOLVER.STEPS": ()}
    settings = {**data, **CUDA, **SGD, **same_rates, "DATASETS.TEST": ()}
    straight = run_training(settings, tmp_path / "straight", *ON_IT)
    run_training({**settings, "SOLVER.MAX_ITER": 1}, tmp_path / "halves", *ON_IT)
    resumed = run_training(settings, tmp_path / "halves", *ON_IT, "--resume")
    assert resumed.start_iter == 1
    pairs = zip(straight.model.parameters(), resumed.model.parameters(), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one.cpu(), other.cpu(), rtol=1e-4, atol=1e-5)


def test_a_checkpoint_of_the_device_is_evaluated_on_the_cpu(
    data: dict[str, object], tmp_path: Path
) -> None:
    trainer = run_training({**data, **CUDA}, tmp_path / "there", *ON_IT)
    weights = {"MODEL.WEIGHTS": str(tmp_path / "there" / "model_final.pth")}
    here = run_evaluation({**data, **weights}, tmp_path / "here")
    assert here["bbox"]["AP"] == pytest.approx(trainer._last_eval_results["bbox"]["AP"], abs=0.1)


def test_a_loss_that_adds_something_of_the_cpu_is_seen(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = METHODS["balanced_softmax"]
    right = method.training_loss

    def with_mistake(self: Any, logits: torch.Tensor, *args: Any) -> torch.Tensor:
        return right(self, logits, *args) + torch.zeros(len(logits))

    monkeypatch.setattr(method, "training_loss", with_mistake)
    settings = {**data, **CUDA, **SCENARIOS["balanced_softmax"]}
    with pytest.raises(RuntimeError, match="device"):
        run_training(settings, tmp_path, *ON_IT)


def test_an_evaluation_that_reads_results_on_the_device_is_seen(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer: LongTailedTrainer = build_trainer({**data, **CUDA}, tmp_path, *ON_IT)
    evaluator = type(trainer.evaluated_sets[0].evaluator)
    right = evaluator.process

    def with_mistake(self: Any, inputs: Any, outputs: list[dict]) -> None:
        for output in outputs:
            output["instances"].scores.numpy()
        right(self, inputs, outputs)

    monkeypatch.setattr(evaluator, "process", with_mistake)
    with pytest.raises(TypeError, match="cuda"):
        train(trainer)
