"""Post-hoc calibration of image classifiers: what is tried and chosen, and that it is applied."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from image_runs import run_image_training
from image_sets import TRAIN_COUNTS, write_folders
from made_up_data import words

from balms_seg.commands.command_line import run_command
from balms_seg.data import register_images
from balms_seg.engine import ImagePredictor, evaluate, load_config
from balms_seg.engine.tuning.calibrated_config import write_calibrated_config
from balms_seg.engine.tuning.classifier_calibration import (
    _measure,
    adjustment_offsets,
    describe_class_mix,
    describe_temperature,
    tune_image_calibration,
)
from balms_seg.engine.tuning.held_out_images import HeldOutImages
from balms_seg.engine.tuning.search_space import CLASS_MIXES
from balms_seg.evaluation.uncertainty.reliability import reliability
from balms_seg.modeling.image_calibration import ImageCalibration

COUNTS = np.array([100.0, 10.0, 1.0])
PARTS = {"train": TRAIN_COUNTS, "held": (40, 30, 20), "other": (3, 3, 3)}


def biased(
    number: int,
    *,
    bias: float,
    sharpness: float = 1.0,
    seed: int = 0,
    shares: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3),
    margins: tuple[float, ...] = (2, 2, 2),
) -> HeldOutImages:
    """Outputs whose logits are off by bias log n, and too sharp or too flat.

    They are made for a margin of 2; a class with a larger one is recognised better than they say.
    """
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, number, p=shares)
    logits = np.diag(margins)[labels] + rng.normal(size=(number, 3))
    logits = sharpness * (2 * logits + bias * np.log(COUNTS))  # twice: right for an even mix
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


@pytest.mark.parametrize("sharpness", [1.0, 1.5])
def test_few_images_do_not_make_probabilities_worse(sharpness: float) -> None:
    """Taking whatever fits best once did, in most of such draws."""
    draws = (biased(12, bias=0.0, sharpness=sharpness, seed=seed) for seed in range(10))
    choices = [tune_image_calibration(held_out, taus=())[1] for held_out in draws]
    assert {choice.temperature for choice in choices} == {1}
    assert sum(abs(np.log(choice.fitted)) > 0.2 for choice in choices) > 5


def test_images_that_are_all_right_do_not_tell_how_sure_to_be() -> None:
    right = HeldOutImages(
        np.tile([0.6, 0.3, 0.1], (40, 1)), np.zeros(40, np.int64), ("a", "b", "c"), COUNTS
    )
    (trial,), _ = tune_image_calibration(right, taus=())
    assert trial.nll_gain[1] > 0
    assert trial.temperature == 1
    assert "it stays 1" in describe_temperature(trial)


def test_the_temperature_makes_probabilities_mean_what_they_say() -> None:
    _, choice = tune_image_calibration(biased(3000, bias=0.0, sharpness=4.0), taus=())
    # The labels were drawn with margin 2 and noise of variance 1: the right logits are 2 x.
    assert choice.temperature == pytest.approx(4.0, rel=0.15)
    assert choice.metrics["ece"] < 3
    gain, low, high = choice.nll_gain
    assert 0 < low < gain < high
    assert describe_temperature(choice).startswith(f"Temperature {choice.temperature:.3f} lowers")


LONG_TAILED = (100 / 111, 10 / 111, 1 / 111)
MARGINS = (3.0, 1.5, 0.5)  # frequent classes are recognised better


def ece_on_an_even_set(temperature: float) -> float:
    even = biased(30000, bias=0.0, seed=1, margins=MARGINS)
    probabilities = ImageCalibration((), temperature)(torch.from_numpy(even.probabilities)).numpy()
    is_right = probabilities.argmax(1) == even.labels
    return 100 * reliability(probabilities.max(1), is_right).expected_calibration_error


def test_a_long_tailed_held_out_set_makes_an_even_one_better() -> None:
    """Each image counting the same, it once made that worse: an ECE of 9.9 rose to 15.4."""
    held_out = biased(12000, bias=0.0, shares=LONG_TAILED, margins=MARGINS)
    before = ece_on_an_even_set(1.0)
    _, even = tune_image_calibration(held_out, taus=())
    _, as_held_out = tune_image_calibration(held_out, taus=(), class_mix="held-out")
    assert even.temperature > 1.3
    assert ece_on_an_even_set(even.temperature) < before / 3
    assert as_held_out.temperature < 0.9
    assert ece_on_an_even_set(as_held_out.temperature) > before + 2


def test_for_which_images_the_constants_hold_is_told() -> None:
    held_out = biased(300, bias=0.0, shares=LONG_TAILED)
    sizes = np.bincount(held_out.labels)
    text, (warning,) = describe_class_mix(held_out, "even")
    assert "an even mix 33 %" in text
    assert f"as much as {9 / (1 / sizes).sum():.0f} of an even mix" in warning
    text, (warning,) = describe_class_mix(held_out, "held-out")
    assert f"largest class has {sizes[0] / 3:.0f} %" in text
    assert "take --class-mix even" in warning
    evenly = biased(900, bias=0.0)
    assert [describe_class_mix(evenly, mix)[1] for mix in CLASS_MIXES] == [[], []]
    absent = biased(300, bias=0.0, shares=(0.5, 0.5, 0.0))
    _, (warning,) = describe_class_mix(absent, "even")
    assert "1 of 3 classes has no held-out image, and so no say: c" in warning


def test_offsets_have_mean_0_and_the_slope_of_tau() -> None:
    offsets = adjustment_offsets(COUNTS, 0.5)
    assert offsets.sum() == pytest.approx(0)
    assert offsets[1] - offsets[0] == pytest.approx(0.5 * np.log(10))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run, with held-out images of another mix of classes registered beside its sets."""
    folder = tmp_path_factory.mktemp("calibrated")
    for place, (part, counts) in enumerate(PARTS.items()):
        write_folders(folder / part, counts, first=100 * place)
    names = {part: f"{folder.name}_{part}" for part in PARTS}
    settings = {
        "DATASETS.REGISTER_IMAGES": [
            [name, f"{folder}/{part}", ""] for part, name in names.items()
        ],
        "DATASETS.TRAIN": (names["train"],),
        "DATASETS.TEST": (names["other"],),
        "SOLVER.MAX_ITER": 12,
    }
    run_image_training(settings, folder / "run")
    return folder / "run"


def calibrate(run: Path, part: str, *more: str) -> None:
    config = ["--config-file", str(run / "config.yaml"), "--num-gpus", "0"]
    weights = ["MODEL.WEIGHTS", str(run / "model_final.pth")]
    run_command("calibrate", [*config, "--dataset", f"{run.parent.name}_{part}", *more, *weights])


def files_of(folder: Path) -> dict[str, bytes]:
    """But log.txt, which this process has open."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "log.txt")
    return {str(path): path.read_bytes() for path in files}


def scores_of(file: Path) -> dict[str, float]:
    with file.open(newline="", encoding="utf-8") as lines:
        return {row["path"]: float(row["score1"]) for row in csv.DictReader(lines)}


def test_evaluation_and_use_take_what_the_command_writes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated = tmp_path / "calibrated.yaml"
    calibrate(run, "held", "--output", str(calibrated))
    shown = capsys.readouterr().out
    assert "90 images of" in shown
    assert "hold where all classes are equally frequent" in shown
    assert f"The evaluation goes to {run}_calibrated, so" in shown
    before = files_of(run)
    monkeypatch.chdir(tmp_path)  # whatever the folder
    run_command("train", ["--eval-only", "--config-file", str(calibrated), "--num-gpus", "0"])
    assert files_of(run) == before
    evaluated = Path(f"{run}_calibrated")
    found = scores_of(evaluated / "inference" / "predictions_classification.csv")
    plain = scores_of(run / "inference" / "predictions_classification.csv")
    assert found.keys() == plain.keys()
    assert max(abs(found[key] - plain[key]) for key in found) > 0.01
    images = run.parent / "other"
    run_command("predict", [str(calibrated), str(images), "--output", str(tmp_path / "found")])
    used = scores_of(tmp_path / "found" / "predictions.csv")
    assert {key: used[str(images / key)] for key in found} == pytest.approx(found, abs=1e-4)
    guesses = list(ImagePredictor.from_checkpoint(calibrated)([images / key for key in found]))
    assert [guess.scores[0] for guess in guesses] == pytest.approx([*found.values()], abs=1e-4)


def test_images_that_were_trained_on_are_refused_under_any_name(run: Path) -> None:
    with pytest.raises(SystemExit, match="was trained on"):
        calibrate(run, "train")
    register_images(f"{run.parent.name}_again", f"{run.parent}/train")
    with pytest.raises(SystemExit, match="was trained on 20 of the 20 images"):
        calibrate(run, "again")


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_copies_of_images_are_known_wherever_they_lie(form: str, run: Path, tmp_path: Path) -> None:
    """Two images of training, or three of the results, under new names beside one of its own."""
    for part, said in (
        ("train", "was trained on 2 of the 4 images"),
        ("other", r"3 of the 5 images of .* are in '.*_other' of DATASETS.TEST"),
    ):
        copied = sorted((run.parent / part / "ape").iterdir())[: 2 if part == "train" else 3]
        folder = tmp_path / part
        for place, file in enumerate(
            [*copied, *sorted((run.parent / "held" / "ape").iterdir())[:2]]
        ):
            (folder / "ape").mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / "ape" / f"renamed_{place}.png")
        source = str(folder)
        if form == "zip":
            source = shutil.make_archive(source, "zip", folder)
        name = f"copied_{part}_{form}"
        register_images(f"{run.parent.name}_{name}", source)
        with pytest.raises(SystemExit, match=said):
            calibrate(run, name)


def test_a_set_of_the_run_s_results_is_refused_whatever_its_name(run: Path) -> None:
    with pytest.raises(SystemExit, match="_other' is in DATASETS.TEST, on which results are rep"):
        calibrate(run, "other")


def test_what_is_not_there_or_of_detectors_is_told_in_a_line(run: Path) -> None:
    with pytest.raises(SystemExit, match=r"not registered.*DATASETS.REGISTER_IMAGES"):
        calibrate(run, "nowhere")
    with pytest.raises(SystemExit, match="image classifier, which --metric is not for"):
        calibrate(run, "held", "--metric", "AP")


@pytest.mark.parametrize("kind", ["weights", "offsets"])
def test_constants_are_applied_in_evaluation(run: Path, tmp_path: Path, kind: str) -> None:
    keys = {"weights": {}, "offsets": {"OFFSETS": [0.0, 0.0, 50.0]}}[kind]
    cfg = load_config(run / "config.yaml")
    cfg.MODEL.WEIGHTS = str(run / "model_final.pth")
    write_calibrated_config(
        tmp_path / "made.yaml",
        cfg,
        {"IMAGE_CLASSIFIER": {"CALIBRATION": keys}},
        config_file=str(run / "config.yaml"),
        overrides=["OUTPUT_DIR", "ignored"],
    )
    made = load_config(tmp_path / "made.yaml")
    assert Path(made.OUTPUT_DIR).name == "run_calibrated"
    made.OUTPUT_DIR = str(tmp_path / "evaluated")
    found = evaluate(made)["classification"]["top1"]
    plain = json.loads((run / "results.json").read_text())["metrics"]
    ((_, before),) = plain.items()
    expected = 100 / 3 if keys else before["classification"]["top1"]  # all are the last class
    assert found == pytest.approx(expected)


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


def test_measures_are_those_of_the_probabilities() -> None:
    held_out = biased(200, bias=0.4, shares=(0.7, 0.2, 0.1))
    right = held_out.probabilities.argmax(axis=1) == held_out.labels
    found = _measure(held_out, held_out.probabilities, np.ones(200))
    of_classes = [right[held_out.labels == k].mean() for k in range(3)]
    assert found["top1"] == pytest.approx(100 * right.mean())
    assert found["balanced"] == pytest.approx(100 * np.mean(of_classes))
    expected = F.nll_loss(
        torch.from_numpy(held_out.probabilities).log(), torch.from_numpy(held_out.labels)
    )
    assert found["nll"] == pytest.approx(float(expected))
