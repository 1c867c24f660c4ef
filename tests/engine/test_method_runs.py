"""Every method in short runs of the engine, and draws of losses in a resumed one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import OF_METHODS, assert_same_tensors, read_checkpoint, run_training

from balms_seg.methods import METHODS

DRAWING = ("federated", "bags", "droploss")


def settings_of(name: str, data: dict, num_iters: int) -> dict[str, object]:
    return {
        **data,
        **OF_METHODS.get(name, {}),
        "MODEL.ROI_BOX_HEAD.CLASSIFIER": name,
        "MODEL.ROI_BOX_HEAD.CLASSIFIER_LAYER": "auto",
        "DATASETS.TEST": (),
        "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
        "SOLVER.STEPS": (),
        "SOLVER.MAX_ITER": num_iters,
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_trains_and_is_evaluated(data: dict, tmp_path: Path, name: str) -> None:
    settings = settings_of(name, data, 2) | {"DATASETS.TEST": data["DATASETS.TEST"]}
    trainer = run_training(settings, tmp_path)
    weight = trainer.model.roi_heads.box_predictor.cls_score.weight
    assert weight.isfinite().all()
    assert len(weight) == trainer.model.roi_heads.box_predictor.method.num_columns
    assert (tmp_path / "results.json").is_file()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n != "bags" else n for n in DRAWING]
)
def test_a_resumed_run_draws_what_a_straight_one_draws(
    data: dict, tmp_path: Path, name: str
) -> None:
    straight = run_training(settings_of(name, data, 4), tmp_path / "straight")
    run_training(settings_of(name, data, 2), tmp_path / "halves")
    torch.rand(7)  # what others draw does not matter
    resumed = run_training(settings_of(name, data, 4), tmp_path / "halves", "--resume")
    assert_same_tensors(straight.model.state_dict(), resumed.model.state_dict())


def test_a_new_classifiers_bias_starts_at_the_prior_and_a_trained_one_stays(
    data: dict, tmp_path: Path
) -> None:
    settings = settings_of("softmax", data, 1) | {
        "MODEL.INITIAL_BIAS": "prior",
        "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.25,
        "SOLVER.BASE_LR": 0.0,
    }
    bias = run_training(settings, tmp_path / "first").model.roi_heads.box_predictor.cls_score.bias
    assert bias.detach()[-1].exp() == pytest.approx(0.75)
    assert bias.detach().exp().sum() == pytest.approx(1.0)
    written = tmp_path / "written.pth"
    weights = {"roi_heads.box_predictor.cls_score.bias": torch.arange(4.0)}
    first = read_checkpoint(tmp_path / "first" / "model_final.pth")
    torch.save({"model": first["model"] | weights}, written)
    second = run_training(settings | {"MODEL.WEIGHTS": str(written)}, tmp_path / "second")
    assert second.model.roi_heads.box_predictor.cls_score.bias.tolist() == [0.0, 1.0, 2.0, 3.0]
