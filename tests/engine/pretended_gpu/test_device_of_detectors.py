"""Detectors on the device: training, resume, evaluation; and that a mistake is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_data import SMALL, words
from runs import build_trainer, run_evaluation, run_training

from balms_seg.commands.command_line import run_command
from balms_seg.engine import LongTailedTrainer, train
from balms_seg.job import BOX_CLASSIFIER
from balms_seg.methods import METHODS, calibration
from balms_seg.model_zoo import get_config_file

CUDA = {"MODEL.DEVICE": "cuda", "SOLVER.MAX_ITER": 2}
ON_IT = ("--num-gpus", "1")
# Two halves of a run have the rates of the whole, and no step that rounding decides.
SGD = {
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "SOLVER.STEPS": (),
}
SCENARIOS: dict[str, dict[str, object]] = {
    "softmax": {"MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax"},
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
    **{
        f"{form}_background": {
            "MODEL.ROI_BOX_HEAD.CLASSIFIER": "balanced_softmax",
            "MODEL.METHODS.BALANCED_SOFTMAX.BACKGROUND": form,
        }
        for form in ("neutral", "factored", "prior")
    },
    **{
        f"calibrated_by_{name}": {"MODEL.ROI_BOX_HEAD.CALIBRATION.METHOD": name}
        for name in ("norcal", "group_temperature")
    },
    "decoupled": {
        "MODEL.ROI_BOX_HEAD.CLASSIFIER": "balanced_sigmoid",
        "MODEL.TRAIN_ONLY": [BOX_CLASSIFIER],
    },
    "synchronised_norm": {"MODEL.RESNETS.NORM": "SyncBN", "MODEL.FPN.NORM": "SyncBN"},
    "precise_norm": {
        "TEST.PRECISE_BN.ENABLED": True,
        "TEST.PRECISE_BN.NUM_ITER": 1,
        "TEST.EVAL_PERIOD": 2,
    },
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_trains_resumes_and_evaluates(
    scenario: str, data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **CUDA, **SGD, **SCENARIOS[scenario]}
    straight = run_training(settings, tmp_path / "straight", *ON_IT)
    assert {p.device.type for p in straight.model.parameters()} == {"cuda"}
    assert straight._last_eval_results["bbox"].keys() >= {"AP", "APr", "APc", "APf"}
    assert straight._trainer.grad_scaler.is_enabled() == (scenario == "float16")
    untested = {**settings, "DATASETS.TEST": ()}
    run_training({**untested, "SOLVER.MAX_ITER": 1}, tmp_path / "halves", *ON_IT)
    resumed = run_training(untested, tmp_path / "halves", *ON_IT, "--resume")
    assert resumed.start_iter == 1
    pairs = zip(straight.model.parameters(), resumed.model.parameters(), strict=True)
    for one, other in pairs:
        assert one.isfinite().all()
        torch.testing.assert_close(one.cpu(), other.cpu(), rtol=1e-4, atol=1e-5)


def test_a_checkpoint_of_the_device_is_evaluated_on_the_cpu(
    data: dict[str, object], tmp_path: Path
) -> None:
    trainer = run_training({**data, **CUDA}, tmp_path / "there", *ON_IT)
    weights = {"MODEL.WEIGHTS": str(tmp_path / "there" / "model_final.pth")}
    here = run_evaluation({**data, **weights}, tmp_path / "here")
    assert here["bbox"]["AP"] == pytest.approx(trainer._last_eval_results["bbox"]["AP"], abs=0.1)


def test_weights_are_tau_normalised_and_calibrated_there(
    data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **CUDA, **SGD, **SCENARIOS["softmax"]}
    run_training({**settings, "DATASETS.TEST": ()}, tmp_path / "run", *ON_IT)
    settings["MODEL.WEIGHTS"] = str(tmp_path / "run" / "model_final.pth")
    tau = {"MODEL.INIT_CLASSIFIER": "tau_norm"}
    assert "bbox" in run_evaluation({**settings, **tau}, tmp_path / "tau", *ON_IT)
    written = tmp_path / "calibrated.yaml"
    flags = ["--config-file", get_config_file("toy/base.yaml"), *ON_IT, "--output", str(written)]
    flags += ["--dataset", data["DATASETS.TEST"][0], "--allow-validation"]
    run_command("calibrate", [*flags, *words({**SMALL, **settings})])
    assert written.is_file()


def test_a_calibration_that_stays_on_the_cpu_is_seen(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = calibration.reweigh
    monkeypatch.setattr(
        calibration,
        "reweigh",
        lambda scores, log_weights, **kwargs: right(scores.cpu(), log_weights, **kwargs),
    )
    settings = {**data, **CUDA, **SCENARIOS["calibrated_by_norcal"]}
    with pytest.raises(RuntimeError, match="device"):
        run_training(settings, tmp_path, *ON_IT)


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
