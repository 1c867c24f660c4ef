"""predict with a detector: COCO results, csv and pictures, at one threshold or the classes' own."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from made_up_data import small_config, write_data_sets

from balms_seg.commands.command_line import run_command
from balms_seg.engine.run import load_model, load_model_and_classes
from balms_seg.engine.tuning.checkpoint_thresholds import keep_thresholds
from balms_seg.evaluation.output.next_to_nothing import FINDS_NOTHING
from balms_seg.evaluation.output.results_file import write_results
from balms_seg.evaluation.predictions.detection_file import read_detections
from balms_seg.modeling import replace_box_classifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as a run writes it, of a model at random, and images."""
    path = tmp_path_factory.mktemp("predict")
    cfg = small_config(write_data_sets(path / "data"))
    torch.manual_seed(0)
    classes = {
        "names": ("red", "green", "blue"),
        "category_ids": (5, 6, 9),
        "groups": ("frequent", "common", "rare"),
        "image_counts": (6, 2, 1),
        "instance_counts": (6, 2, 1),
        "thresholds": (),
    }
    content = {"model": build_model(cfg).state_dict(), "config": cfg.dump(), "classes": classes}
    torch.save(content, path / "model.pth")
    return path


def predict(folder: Path, output: Path, *flags: str, model: Path | None = None) -> list[dict]:
    images = str(folder / "data" / "val")
    command = [
        str(model or folder / "model.pth"),
        images,
        "--output",
        str(output),
        "--num-gpus",
        "0",
    ]
    run_command("predict", [*command, *flags])
    return read_detections(output / "predictions.json")


def test_a_folder_becomes_results_a_table_and_pictures(folder: Path, tmp_path: Path) -> None:
    found = predict(folder, tmp_path, "--confidence-threshold", "0.0")
    assert {each["image_id"] for each in found} == {1, 2, 3}
    assert {each["category_id"] for each in found} <= {5, 6, 9}
    assert all("segmentation" in each for each in found)
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = {5: "red", 6: "green", 9: "blue"}
    assert [row["class"] for row in rows] == [names[each["category_id"]] for each in found]
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in pictures] == ["000001_1.png", "000002_2.png", "000003_3.png"]
    original = cv2.imread(str(folder / "data" / "val" / "1.png"))
    enlarged = cv2.resize(original, (480, 480), interpolation=cv2.INTER_LINEAR)
    assert not np.array_equal(cv2.imread(str(pictures[0])), enlarged)


def test_an_image_that_cannot_be_read_is_left_out_and_named(folder: Path, tmp_path: Path) -> None:
    photos = shutil.copytree(folder / "data" / "val", tmp_path / "photos")
    whole = (photos / "2.png").read_bytes()
    (photos / "2.png").write_bytes(whole[: len(whole) // 2])
    flags = ["--output", str(tmp_path / "found"), "--num-gpus", "0", "--confidence-threshold", "0"]
    with pytest.raises(SystemExit, match=r"1 of 3 images was left out: .*2\.png"):
        run_command("predict", [str(folder / "model.pth"), str(photos), *flags])
    found = read_detections(tmp_path / "found" / "predictions.json")
    assert {each["image_id"] for each in found} == {1, 3}


def test_a_detection_at_the_threshold_is_kept(folder: Path, tmp_path: Path) -> None:
    everything = predict(folder, tmp_path / "all", "--confidence-threshold", "0.0")
    median = float(np.median([np.float32(each["score"]) for each in everything]))
    found = predict(folder, tmp_path / "some", "--confidence-threshold", repr(median))
    kept = [each["score"] for each in everything if np.float32(each["score"]) >= median]
    assert 0 < len(kept) < len(everything)
    assert [each["score"] for each in found] == kept


def test_each_class_is_cut_at_its_own_threshold(folder: Path, tmp_path: Path) -> None:
    everything = predict(folder, tmp_path / "all", "--confidence-threshold", "0.0")
    cut = {5: float(np.median([e["score"] for e in everything if e["category_id"] == 5] or [0]))}
    (tmp_path / "thresholds.yaml").write_text(
        f"MODEL:\n  ROI_BOX_HEAD:\n    CLASS_THRESHOLDS: [{cut[5]}, 2.0, 0.0]\n"
    )
    found = predict(folder, tmp_path / "cut", "--thresholds", str(tmp_path / "thresholds.yaml"))
    lowest = {5: cut[5], 6: 2.0, 9: 0.0}
    expected = [e for e in everything if e["score"] >= lowest[e["category_id"]]]
    assert [e["score"] for e in found] == pytest.approx([e["score"] for e in expected])


def test_a_calibrated_configuration_has_the_counts_of_its_checkpoint(
    folder: Path, tmp_path: Path
) -> None:
    """The training set need not be at hand."""
    cfg = torch.load(folder / "model.pth", weights_only=False)["config"]
    (tmp_path / "run.yaml").write_text(cfg)
    (tmp_path / "calibrated.yaml").write_text(
        f"_BASE_: run.yaml\nMODEL:\n  WEIGHTS: {folder / 'model.pth'}\n  ROI_BOX_HEAD:\n"
        "    CALIBRATION:\n      METHOD: norcal\n      STRENGTH: 1.0\n"
    )
    images, output = str(folder / "data" / "val"), tmp_path / "found"
    words = [str(tmp_path / "calibrated.yaml"), images, "--output", str(output), "--num-gpus", "0"]
    run_command("predict", [*words, "--confidence-threshold", "0.0"])
    calibrated = read_detections(output / "predictions.json")
    plain = predict(folder, tmp_path / "plain", "--confidence-threshold", "0.0")
    shares = [
        np.mean([each["category_id"] == 9 for each in found]) for found in (plain, calibrated)
    ]
    assert shares[1] > shares[0]  # the class of one training image


def test_warnings_of_the_training_are_not_repeated(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = torch.load(folder / "model.pth", weights_only=False)
    for name in ("image_counts", "instance_counts"):
        content["classes"][name] = (6, 2, 0)  # which training told of
    torch.save(content, tmp_path / "model.pth")
    predict(folder, tmp_path / "found", model=tmp_path / "model.pth")
    assert [one.message for one in caplog.records if one.levelno >= logging.WARNING] == []


def test_nothing_above_the_threshold_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert predict(folder, tmp_path, "--confidence-threshold", "1.0") == []
    said = capsys.readouterr().out
    assert "Kept are detections of scores of 1 and above; --confidence-threshold or" in said
    assert "No detection passed the threshold; 15 were below it. Lower" in said
    assert FINDS_NOTHING not in said
    model = Path(shutil.copy(folder / "model.pth", tmp_path))
    write_results(tmp_path / "results.json", metrics={"mine": {"bbox": {"AP": 0.02}}})
    predict(folder, tmp_path / "again", "--confidence-threshold", "1.0", model=model)
    said = capsys.readouterr().out
    assert "15 were below it.\n" in said
    assert f"{FINDS_NOTHING} So says {tmp_path / 'results.json'}.\n" in said


def test_thresholds_beside_the_model_are_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model = Path(shutil.copy(folder / "model.pth", tmp_path))
    thresholds = tmp_path / "thresholds.yaml"
    thresholds.write_text("MODEL: {ROI_BOX_HEAD: {CLASS_THRESHOLDS: [0.1, 0.2, 0.3]}}\n")
    hint = f"There are thresholds of its classes: --thresholds {thresholds}.\n"
    predict(folder, tmp_path / "a", model=model)
    assert hint in capsys.readouterr().out
    predict(folder, tmp_path / "b", "--confidence-threshold", "0.2", model=model)
    assert hint not in capsys.readouterr().out
    predict(folder, tmp_path / "c", "--thresholds", str(thresholds), model=model)
    assert hint not in capsys.readouterr().out


def test_keys_change_what_the_model_finds(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    key = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "1.0"]
    everything = ("--confidence-threshold", "0.0")
    found = predict(folder, tmp_path / "a", *everything, "TEST.DETECTIONS_PER_IMAGE", "2")
    assert len(found) == 6
    assert predict(folder, tmp_path / "b", *everything, *key) == []
    said = capsys.readouterr().out
    assert f"Kept are detections of scores above {key[0]} 0.001; a lower one keeps more" in said
    assert f"The model found nothing of a score above {key[0]} 1. Give a lower one" in said
    assert "below" not in said
    with pytest.raises(SystemExit, match=r"no key MODEL\.ROI_HEAD "):
        predict(folder, tmp_path / "c", "MODEL.ROI_HEAD", "1")


def test_a_set_named_on_the_command_line_names_the_classes(foreign: Path) -> None:
    data = foreign / "data"
    (data / "train.json").rename(data / "elsewhere.json")
    entry = ["renamed", str(data / "elsewhere.json"), str(data / "train")]
    keys = ["DATASETS.REGISTER", repr([entry]), "DATASETS.TRAIN", "('renamed',)"]
    found = predict(foreign, foreign / "a", *keys, model=foreign / "evaluated")
    assert {each["category_id"] for each in found} <= {1, 2, 3}


def test_a_gpu_that_is_not_there_is_said_to_be_missing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = [str(folder / "model.pth"), str(folder / "data" / "val"), "--output", str(tmp_path)]
    with pytest.raises(SystemExit, match="CUDA is not available; use --num-gpus 0"):
        run_command("predict", [*words, "MODEL.DEVICE", "cuda"])
    run_command("predict", words)  # falls back to the CPU


def test_a_file_without_thresholds_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(json.dumps({"MODEL": {}}))
    with pytest.raises(SystemExit, match="CLASS_THRESHOLDS"):
        predict(folder, tmp_path, "--thresholds", str(other))


def test_thresholds_in_the_checkpoint_hold_unless_others_are_given(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    everything = predict(folder, tmp_path / "all", "--confidence-threshold", "0.0")
    cut = float(np.median([each["score"] for each in everything if each["category_id"] == 5]))
    model = Path(shutil.copy(folder / "model.pth", tmp_path))
    keep_thresholds(model, ("red", "green", "blue"), [cut, 1.0, 0.0])
    found = predict(folder, tmp_path / "cut", model=model)
    lowest = {5: cut - 1e-5, 6: 1.0, 9: 0.0}
    expected = [each for each in everything if each["score"] >= lowest[each["category_id"]]]
    assert 0 < len(found) < len(everything)
    assert found == expected
    assert "scores from their class's threshold on; --thresholds changes" in capsys.readouterr().out
    surer = predict(folder, tmp_path / "surer", "--confidence-threshold", "0.99", model=model)
    assert surer == [each for each in found if each["score"] >= 0.99]
    given = tmp_path / "thresholds.yaml"
    given.write_text("MODEL:\n  ROI_BOX_HEAD:\n    CLASS_THRESHOLDS: [0.0, 0.0, 0.0]\n")
    again = predict(folder, tmp_path / "again", "--thresholds", str(given), model=model)
    assert again == everything


def test_an_evaluation_does_not_cut_at_the_thresholds_of_a_checkpoint(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copy(folder / "model.pth", tmp_path)
    keep_thresholds(tmp_path / "model.pth", ("red", "green", "blue"), [0.5, 0.5, 0.5])
    cfg = small_config({"MODEL.WEIGHTS": str(tmp_path / "model.pth")})
    assert load_model(cfg).roi_heads.class_thresholds is None
    model, classes = load_model_and_classes(cfg)
    assert classes.thresholds == (0.5, 0.5, 0.5)
    assert model.roi_heads.class_thresholds.tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("names", "thresholds", "message"),
    [
        (("red", "blue", "green"), [0.5] * 3, "another order, from class 1"),
        (("red", "green"), [0.5] * 2, "3 and 2 classes; only in the first: blue"),
        (("red", "green", "blue"), [0.5] * 2, "thresholds of each of the 3 classes, but got 2"),
    ],
)
def test_thresholds_of_other_classes_are_refused(
    names: tuple[str, ...], thresholds: list[float], message: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copy(folder / "model.pth", tmp_path)
    with pytest.raises(ValueError, match=message):
        keep_thresholds(tmp_path / "model.pth", names, thresholds)
    assert (tmp_path / "model.pth").read_bytes() == (folder / "model.pth").read_bytes()


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A checkpoint of another trainer, which holds weights alone, and beside it its evaluation."""
    torch.manual_seed(0)
    cfg = small_config(write_data_sets(tmp_path / "data"))
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    torch.save({"model": build_model(cfg).state_dict()}, cfg.MODEL.WEIGHTS)
    evaluated = tmp_path / "evaluated"
    write_results(evaluated / "results.json", metrics={}, config=cfg.dump())
    (evaluated / "config.yaml").write_text(cfg.dump())
    return tmp_path


def test_the_evaluation_of_a_foreign_checkpoint_says_what_it_is(
    foreign: Path, caplog: pytest.LogCaptureFixture
) -> None:
    everything = ("--confidence-threshold", "0.0")
    found = predict(foreign, foreign / "a", *everything, model=foreign / "evaluated")
    assert {each["category_id"] for each in found} <= {1, 2, 3}  # of the training json
    assert len(found) == 15
    said = [one.message for one in caplog.records if one.levelno >= logging.WARNING]
    assert not any("does not hold its configuration" in one for one in said)
    model = foreign / "model_final.pth"
    with pytest.raises(SystemExit, match=r"no .*config\.yaml.* balms-seg demo --config-file F"):
        predict(foreign, foreign / "b", model=model)
    shutil.copy(foreign / "evaluated" / "config.yaml", foreign)
    assert predict(foreign, foreign / "c", *everything, model=model) == found
    assert "LongTailedROIHeads with the classifier balanced_softmax" in caplog.text


def test_classes_that_nothing_names_are_asked_for(foreign: Path) -> None:
    (foreign / "data" / "train.json").unlink()
    with pytest.raises(SystemExit, match=r"DATASETS\.TRAIN .* not at hand to name them"):
        predict(foreign, foreign / "a", model=foreign / "evaluated")


def test_a_classifier_that_was_replaced_in_code_is_named_as_the_cause(foreign: Path) -> None:
    path = foreign / "evaluated" / "config.yaml"
    settings = {"MODEL.ROI_HEADS.NAME": "StandardROIHeads", "MODEL.ROI_BOX_HEAD.CLASSIFIER": ""}
    model = build_model(small_config(settings))
    replace_box_classifier(model, "sigmoid", None)
    torch.save({"model": model.state_dict()}, foreign / "model_final.pth")
    cfg = small_config({**settings, "MODEL.WEIGHTS": str(foreign / "model_final.pth")})
    path.write_text(cfg.dump())
    with pytest.raises(SystemExit, match=r"replaced in code .*CLASSIFIER to the method"):
        predict(foreign, foreign / "a", model=foreign / "evaluated")
