"""Detectors on the device: training, resume, evaluation; and that a mistake is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_data import SMALL, words
from runs import build_trainer, copy_interrupted, run_evaluation, run_training
from torch import Tensor

from balms_seg.commands.command_line import run_command
from balms_seg.engine import LongTailedTrainer, train
from balms_seg.engine.weight_average import WeightAverage
from balms_seg.job import BOX_CLASSIFIER
from balms_seg.methods import METHODS
from balms_seg.methods.calibration import reweigh
from balms_seg.model_zoo import get_config_file
from balms_seg.modeling.box_rows import compute_box_rows
from balms_seg.modeling.classifier_init import tau_normalise_classifiers, tau_normalised

CUDA = {"MODEL.DEVICE": "cuda", "SOLVER.MAX_ITER": 2}
ON_IT = ("--num-gpus", "1")
# No step that rounding decides.
SGD = {
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "SOLVER.STEPS": (),
}
CLASSIFIER = "MODEL.ROI_BOX_HEAD.CLASSIFIER"
CALIBRATION = "MODEL.ROI_BOX_HEAD.CALIBRATION.METHOD"
BALANCED = {CLASSIFIER: "balanced_softmax"}
BACKGROUND = "MODEL.METHODS.BALANCED_SOFTMAX.BACKGROUND"
# What does not touch what else a scenario tries goes with it: a run takes seconds.
SCENARIOS: dict[str, dict[str, object]] = {
    "softmax_norcal": {CLASSIFIER: "softmax", CALIBRATION: "norcal"},
    "balanced_softmax_group_temperature": {**BALANCED, CALIBRATION: "group_temperature"},
    "sigmoid_synchronised_norm": {
        CLASSIFIER: "sigmoid",
        "MODEL.RESNETS.NORM": "SyncBN",
        "MODEL.FPN.NORM": "SyncBN",
    },
    "balanced_sigmoid_precise_norm": {
        CLASSIFIER: "balanced_sigmoid",
        "TEST.PRECISE_BN.ENABLED": True,
        "TEST.PRECISE_BN.NUM_ITER": 1,
        "TEST.EVAL_PERIOD": 2,
    },
    "cascade_prior_background": {
        **BALANCED,
        BACKGROUND: "prior",
        "MODEL.ROI_HEADS.NAME": "CascadeLongTailedROIHeads",
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 50,
    },
    "float16_neutral_background": {
        **BALANCED,
        BACKGROUND: "neutral",
        "SOLVER.AMP.ENABLED": True,
        "SOLVER.CLIP_GRADIENTS.ENABLED": True,
    },
    "bfloat16_factored_background": {
        **BALANCED,
        BACKGROUND: "factored",
        "SOLVER.AMP.ENABLED": True,
        "SOLVER.AMP.DTYPE": "bfloat16",
    },
    "average_and_augmentation": {
        "SOLVER.EMA_DECAY": 0.9,
        "TEST.AUG.ENABLED": True,
        "TEST.AUG.MIN_SIZES": (64, 80),
    },
    "decoupled": {CLASSIFIER: "balanced_sigmoid", "MODEL.TRAIN_ONLY": [BOX_CLASSIFIER]},
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_trains_resumes_and_evaluates(
    scenario: str, data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **CUDA, **SGD, "SOLVER.CHECKPOINT_PERIOD": 1, **SCENARIOS[scenario]}
    straight = run_training(settings, tmp_path / "straight", *ON_IT)
    assert {p.device.type for p in straight.model.parameters()} == {"cuda"}
    assert straight._last_eval_results["bbox"].keys() >= {"AP", "APr", "APc", "APf"}
    assert straight._trainer.grad_scaler.is_enabled() == scenario.startswith("float16")
    copy_interrupted(tmp_path / "straight", tmp_path / "halves", "model_0000000.pth")
    untested = {**settings, "DATASETS.TEST": ()}
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


def test_a_model_for_the_cpu_stays_there_beside_a_gpu(
    data: dict[str, object], tmp_path: Path
) -> None:
    trainer = run_training({**data, **CUDA, "MODEL.DEVICE": "cpu"}, tmp_path, *ON_IT)
    assert {p.device.type for p in trainer.model.parameters()} == {"cpu"}
    assert "AP" in trainer._last_eval_results["bbox"]


def test_weights_are_tau_normalised_and_calibrated_there(
    data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **CUDA, **SGD, CLASSIFIER: "softmax"}
    run_training({**settings, "DATASETS.TEST": ()}, tmp_path / "run", *ON_IT)
    settings["MODEL.WEIGHTS"] = str(tmp_path / "run" / "model_final.pth")
    tau = {"MODEL.INIT_CLASSIFIER": "tau_norm"}
    assert "bbox" in run_evaluation({**settings, **tau}, tmp_path / "tau", *ON_IT)
    written = tmp_path / "calibrated.yaml"
    flags = ["--config-file", get_config_file("toy/base.yaml"), *ON_IT, "--output", str(written)]
    flags += ["--dataset", data["DATASETS.TEST"][0], "--allow-validation"]
    run_command("calibrate", [*flags, *words({**SMALL, **settings})])
    assert written.is_file()


def _reweigh(scores: Tensor, log_weights: Tensor, **kwargs: Any) -> Tensor:
    return reweigh(scores.cpu(), log_weights, **kwargs)


def _average(average: WeightAverage) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in average._model.state_dict().items()}


def _rows(*args: Any) -> Any:
    rows = compute_box_rows(*args)
    return rows._replace(features=rows.features.cpu())


# Scenario: what is replaced, and by what.
MISTAKES = {
    "softmax_norcal": ("methods.calibration.reweigh", _reweigh),
    "average_and_augmentation": ("engine.weight_average.WeightAverage._copy", _average),
    "decoupled": ("modeling.box_rows.compute_box_rows", _rows),
}


@pytest.mark.parametrize("scenario", MISTAKES)
def test_what_stays_on_the_cpu_is_seen(
    scenario: str, data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, mistake = MISTAKES[scenario]
    monkeypatch.setattr(f"balms_seg.{where}", mistake)
    settings = {**data, **CUDA, "SOLVER.MAX_ITER": 1, **SCENARIOS[scenario]}
    with pytest.raises(RuntimeError, match="device"):
        run_training(settings, tmp_path, *ON_IT)


def test_norms_that_stay_on_the_cpu_are_seen(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_mistake(weight: Tensor, bias: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return tau_normalised(weight * torch.ones(len(weight), 1), bias, **kwargs)

    monkeypatch.setattr("balms_seg.modeling.classifier_init.tau_normalised", with_mistake)
    model = build_trainer({**data, **CUDA}, tmp_path, *ON_IT).model
    with pytest.raises(RuntimeError, match="device"):
        tau_normalise_classifiers(model, tau=1.0)


def test_a_resumed_run_without_its_momentum_is_seen(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.optim.SGD, "load_state_dict", lambda self, state: None)
    with pytest.raises(AssertionError, match="not close"):
        test_it_trains_resumes_and_evaluates("softmax_norcal", data, tmp_path)


def test_a_run_without_half_precision_is_seen(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balms_seg.engine.trainer.half_precision", lambda cfg: None)
    with pytest.raises(AssertionError, match="float16"):
        test_it_trains_resumes_and_evaluates("float16_neutral_background", data, tmp_path)


def test_a_loss_that_adds_something_of_the_cpu_is_seen(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = METHODS["balanced_softmax"]
    right = method.training_loss

    def with_mistake(self: Any, logits: Tensor, *args: Any) -> Tensor:
        return right(self, logits, *args) + torch.zeros(len(logits))

    monkeypatch.setattr(method, "training_loss", with_mistake)
    settings = {**data, **CUDA, **BALANCED}
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
