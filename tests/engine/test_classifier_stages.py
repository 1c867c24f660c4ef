"""Runs that start from a feature stage's classifier: reset, scaled, normalised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from runs import build_trainer, read_checkpoint, run_evaluation, run_training
from torch import Tensor

from balms_seg.engine.run_summary import describe_start
from balms_seg.evaluation import read_results

CLASSIFIER = "roi_heads.box_predictor.cls_score"
SOFTMAX = {"MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax", "DATASETS.TEST": ()}
SGD = {"SOLVER.OPTIMIZER": "SGD", "SOLVER.CLIP_GRADIENTS.ENABLED": False}


@pytest.fixture(scope="module")
def feature_stage(data: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a feature stage."""
    folder = tmp_path_factory.mktemp("feature")
    run_training({**data, **SOFTMAX, "SEED": 1}, folder)
    return folder / "model_final.pth"


def settings(data: Mapping[str, object], weights: Path, how: str, **more: object) -> dict:
    trained = f"{CLASSIFIER}.scale" if how == "lws" else CLASSIFIER
    return {
        **data,
        **SOFTMAX,
        **SGD,
        "SEED": 2,
        "MODEL.WEIGHTS": str(weights),
        "MODEL.INIT_CLASSIFIER": how,
        "MODEL.TRAIN_ONLY": [trained],
        **more,
    }


def weights_of(path: Path) -> dict[str, Tensor]:
    return read_checkpoint(path)["model"]


def test_reset_happens_after_loading_and_not_on_resuming(
    data: dict[str, object], feature_stage: Path, tmp_path: Path
) -> None:
    stage_two = settings(data, feature_stage, "reset")
    trainer = build_trainer(stage_two, tmp_path)
    trainer.resume_or_load(resume=True)  # nothing to resume from yet
    started = trainer.model.state_dict()
    loaded = weights_of(feature_stage)
    differing = {name for name in loaded if not torch.equal(started[name], loaded[name])}
    assert differing == {f"{CLASSIFIER}.{key}" for key in ("weight", "bias")}
    trainer.train()
    final = weights_of(tmp_path / "model_final.pth")
    resumed = build_trainer({**stage_two, "SOLVER.MAX_ITER": 4}, tmp_path, "--resume")
    resumed.resume_or_load(resume=True)
    assert torch.equal(
        resumed.model.state_dict()[f"{CLASSIFIER}.weight"], final[f"{CLASSIFIER}.weight"]
    )


def test_scales_train_save_load_and_evaluate(
    data: dict[str, object], feature_stage: Path, tmp_path: Path
) -> None:
    stage_two = settings(data, feature_stage, "lws")
    run_training(stage_two, tmp_path)
    before, after = weights_of(feature_stage), weights_of(tmp_path / "model_final.pth")
    assert {name for name in before if not torch.equal(before[name], after[name])} == set()
    assert after.keys() - before.keys() == {f"{CLASSIFIER}.scale"}
    assert not torch.equal(after[f"{CLASSIFIER}.scale"], torch.ones(4))
    evaluated = {
        **stage_two,
        "DATASETS.TEST": data["DATASETS.TEST"],
        "MODEL.WEIGHTS": str(tmp_path / "model_final.pth"),
    }
    assert "segm" in run_evaluation(evaluated, tmp_path)
    trained = read_results(tmp_path / "results.json")["checkpoint"]
    assert trained == {"seed": stage_two["SEED"], "iteration": 2, "batch_size": 2}


def test_scales_refuse_a_checkpoint_without_the_classifier(
    data: dict[str, object], feature_stage: Path, tmp_path: Path
) -> None:
    other = settings(data, feature_stage, "lws", **{"MODEL.ROI_BOX_HEAD.CLASSIFIER": "sigmoid"})
    with pytest.raises(RuntimeError, match="lws"):
        build_trainer(other, tmp_path).resume_or_load(resume=False)


def test_a_classifier_that_is_kept_has_as_many_columns(
    data: dict[str, object], feature_stage: Path, tmp_path: Path
) -> None:
    sigmoid = {"MODEL.ROI_BOX_HEAD.CLASSIFIER": "balanced_sigmoid"}
    kept = settings(data, feature_stage, "keep", **sigmoid)
    with pytest.raises(ValueError, match=r"there it has 4 columns and in the model 3\. Give"):
        build_trainer(kept, tmp_path / "kept").resume_or_load(resume=False)
    for key, value in (("MODEL.INIT_CLASSIFIER", "reset"), ("MODEL.TRAIN_ONLY", [])):
        build_trainer({**kept, key: value}, tmp_path / key).resume_or_load(resume=False)


def test_weights_without_what_stays_frozen_are_refused(
    data: dict[str, object], feature_stage: Path, tmp_path: Path
) -> None:
    """A backbone's, as given to the first stage where there is no network."""
    content = weights_of(feature_stage)
    backbone = {name: value for name, value in content.items() if name.startswith("backbone.")}
    torch.save({"model": backbone, "matching_heuristics": True}, tmp_path / "backbone.pth")
    stage_two = settings(data, tmp_path / "backbone.pth", "reset")
    with pytest.raises(ValueError, match=r"cls_score alone, but .* which would stay random"):
        build_trainer(stage_two, tmp_path / "out").resume_or_load(resume=False)


def test_a_first_stage_that_saw_too_little_is_warned_of(
    data: dict[str, object], feature_stage: Path, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    trial = {"MODEL.STAGE_ONE_CONFIG": "toy/feature_softmax.yaml"}
    tried = build_trainer(settings(data, feature_stage, "reset", **trial), tmp_path / "a")
    tried.resume_or_load()
    assert f"from {feature_stage} of iteration 1" in describe_start(tried)
    (said,) = [message for message in log.messages if "was trained on" in message]
    assert "was trained on 4 images, toy/feature_softmax.yaml on " in said
    log.clear()
    content = read_checkpoint(feature_stage)
    content["iteration"] = 10**6
    torch.save(content, tmp_path / "whole.pth")
    for config in (*trial.values(), "own/first.yaml"):  # which the package does not have
        stage = {"MODEL.STAGE_ONE_CONFIG": config}
        whole = settings(data, tmp_path / "whole.pth", "reset", **stage)
        build_trainer(whole, tmp_path / Path(config).parent.name).resume_or_load()
    assert not any("was trained on" in message for message in log.messages)


def test_tau_normalisation_evaluates_and_does_not_train(
    data: dict[str, object], feature_stage: Path, tmp_path: Path
) -> None:
    normalised = settings(data, feature_stage, "tau_norm", **{"MODEL.TRAIN_ONLY": []})
    normalised["DATASETS.TEST"] = data["DATASETS.TEST"]
    assert "segm" in run_evaluation(normalised, tmp_path)
    with pytest.raises(ValueError, match="--eval-only"):
        build_trainer(normalised, tmp_path)
