"""Post-hoc calibration of image classifiers: what is tried and chosen, and that it is applied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from image_runs import run_image_evaluation, run_image_training
from image_sets import TRAIN_COUNTS, write_folders
from made_up_data import words

from balms_seg.commands.command_line import run_command
from balms_seg.engine import load_config
from balms_seg.engine.tuning.classifier_calibration import (
    HeldOutImages,
    adjustment_offsets,
    tune_image_calibration,
)
from balms_seg.modeling.image_calibration import ImageCalibration

COUNTS = np.array([100.0, 10.0, 1.0])


def biased(number: int, *, bias: float, sharpness: float = 1.0, seed: int = 0) -> HeldOutImages:
    """Outputs whose logits are off by bias log n, and too sharp or too flat."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, number)
    logits = 2 * np.eye(3)[labels] + rng.normal(size=(number, 3))
    logits = sharpness * (2 * logits + bias * np.log(COUNTS))
    probabilities = torch.from_numpy(logits).softmax(1).numpy()
    return HeldOutImages(probabilities, labels, ("a", "b", "c"), COUNTS)


def test_calibrated_probabilities_are_those_of_adjusted_logits() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    offsets = [0.5, -1.0, 2.0]
    found = ImageCalibration(offsets, 2.5)(logits.softmax(1))
    expected = F.softmax((logits + torch.tensor(offsets)) / 2.5, dim=1)
    assert torch.allclose(found, expected, atol=1e-12)
    same = logits.softmax(1)
    assert ImageCalibration()(same) is same


def test_a_class_without_probability_stays_finite() -> None:
    given = torch.tensor([[1.0, 0.0]])
    assert torch.isfinite(ImageCalibration([0.0, 1.0], 0.5)(given)).all()


def test_the_bias_towards_frequent_classes_is_found_and_removed() -> None:
    trials, choice = tune_image_calibration(biased(900, bias=1.0))
    assert [trial.tau for trial in trials] == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5]
    assert 0.75 <= choice.tau <= 1.25
    assert choice.gain[1] > 0
    assert choice.metrics["balanced"] == pytest.approx(
        trials[0].metrics["balanced"] + choice.gain[0]
    )


def test_an_unbiased_model_stays_as_it_is() -> None:
    choices = [tune_image_calibration(biased(90, bias=0.0, seed=seed))[1] for seed in range(20)]
    changed = sum(choice.tau != 0 for choice in choices)
    assert changed <= 2


def test_the_temperature_makes_probabilities_mean_what_they_say() -> None:
    _, choice = tune_image_calibration(biased(3000, bias=0.0, sharpness=4.0), taus=())
    # The labels were drawn with margin 2 and noise of variance 1: the right logits are 2 x.
    assert choice.temperature == pytest.approx(4.0, rel=0.15)
    assert choice.metrics["ece"] < 3


def test_offsets_have_mean_0_and_the_slope_of_tau() -> None:
    offsets = adjustment_offsets(COUNTS, 0.5)
    assert offsets.sum() == pytest.approx(0)
    assert offsets[1] - offsets[0] == pytest.approx(0.5 * np.log(10))


def test_the_command_writes_a_configuration_that_is_applied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folders(tmp_path / "train", TRAIN_COUNTS)
    write_folders(tmp_path / "held", (6, 6, 6))
    names = [f"own{id(tmp_path)}_{part}" for part in ("seen", "held")]
    settings = {
        "DATASETS.REGISTER_IMAGES": [
            [names[0], f"{tmp_path}/train", ""],
            [names[1], f"{tmp_path}/held", ""],
        ],
        "DATASETS.TRAIN": (names[0],),
        "DATASETS.TEST": (names[1],),
        "SOLVER.MAX_ITER": 12,
    }
    run_image_training(settings, tmp_path / "run")
    config, output = tmp_path / "run" / "config.yaml", tmp_path / "calibrated.yaml"
    weights = ["MODEL.WEIGHTS", str(tmp_path / "run" / "model_final.pth")]
    words_of = ["--config-file", str(config), "--dataset", names[1], "--num-gpus", "0"]
    run_command("calibrate", [*words_of, "--output", str(output), *weights])
    assert "18 images of" in capsys.readouterr().out
    calibration = load_config(output).MODEL.IMAGE_CLASSIFIER.CALIBRATION
    calibrated = {
        "MODEL.IMAGE_CLASSIFIER.CALIBRATION.OFFSETS": [0.0, 0.0, 50.0],
        "MODEL.IMAGE_CLASSIFIER.CALIBRATION.TEMPERATURE": float(calibration.TEMPERATURE),
        "MODEL.WEIGHTS": weights[1],
    }
    found = run_image_evaluation({**settings, **calibrated}, tmp_path / "evaluated")
    assert found["classification"]["top1"] == pytest.approx(100 / 3)  # all are the last class
    with pytest.raises(SystemExit, match="was trained on"):
        run_command("calibrate", [*words_of[:3], names[0], *words_of[4:], *weights])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("OFFSETS", [0.0, 1.0], "has 2 entries for 3 classes"), ("TEMPERATURE", 0.0, "above 0")],
)
def test_constants_of_another_model_are_refused(key: str, value: object, message: str) -> None:
    settings = {
        "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES": 3,
        f"MODEL.IMAGE_CLASSIFIER.CALIBRATION.{key}": value,
    }
    with pytest.raises(ValueError, match=message):
        load_config("classification/base.yaml", words(settings))
