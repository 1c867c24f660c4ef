"""demo draws what a checkpoint finds, with or without the training set at hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from made_up_data import SMALL, small_config, words, write_data_sets

from balms_seg.class_statistics.class_record import ClassRecord
from balms_seg.commands.command_line import run_command
from balms_seg.commands.demo import read_categories
from balms_seg.model_zoo import get_config_file


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save({"model": build_model(small_config()).state_dict()}, path)
    return path


def command(
    folder: Path, weights: Path, data: dict, *flags: str, threshold: str = "0.0"
) -> list[str]:
    settings = {**SMALL, "DATASETS.REGISTER": [], "DATASETS.TRAIN": (), "DATASETS.TEST": (), **data}
    base = ["--config-file", get_config_file("toy/base.yaml"), "--num-gpus", "0", *flags]
    base += ["--output", str(folder / "found"), "--confidence-threshold", threshold, "--opts"]
    return base + words({**settings, "MODEL.WEIGHTS": str(weights)})


@pytest.mark.parametrize("with_data", [True, False])
def test_each_image_gives_a_picture(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture, with_data: bool
) -> None:
    data = write_data_sets(tmp_path / "data")
    images = str(tmp_path / "data" / "val" / "*.png")
    used = data if with_data else {}
    run_command("demo", command(tmp_path, weights, used, "--groups", "--input", images))
    files = sorted((tmp_path / "found").iterdir())
    assert [file.name for file in files] == ["1.png", "2.png", "3.png"]
    original = cv2.imread(str(tmp_path / "data" / "val" / "1.png"))
    drawn = cv2.imread(str(files[0]))
    assert drawn.shape == (480, 480, 3)
    enlarged = cv2.resize(original, (480, 480), interpolation=cv2.INTER_LINEAR)
    assert not np.array_equal(drawn, enlarged)
    assert "1.png: 5 instances" in capsys.readouterr().out


def test_says_that_nothing_passed_the_threshold(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_data_sets(tmp_path / "data")
    images = str(tmp_path / "data" / "val" / "1.png")
    run_command("demo", command(tmp_path, weights, {}, "--input", images, threshold="0.99"))
    said = capsys.readouterr().out
    assert (
        "1.png: none of 5 detections passes --confidence-threshold 0.99; the surest has 0." in said
    )


def test_thresholds_of_the_configuration_are_not_cut_again(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_data_sets(tmp_path / "data")
    images = str(tmp_path / "data" / "val" / "1.png")
    data = {"MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS": [0.0, 0.0, 0.0]}
    arguments = command(tmp_path, weights, data, "--input", images)
    flag = arguments.index("--confidence-threshold")
    run_command("demo", arguments[:flag] + arguments[flag + 2 :])
    assert "1.png: 5 instances" in capsys.readouterr().out  # all of them below 0.5


def test_names_and_groups_come_from_the_training_set(tmp_path: Path) -> None:
    cfg = small_config(write_data_sets(tmp_path / "data"))
    categories = read_categories(cfg)
    assert categories[0] == {"name": "class 0", "frequency": "f"}
    assert categories[2]["frequency"] == "r"
    cfg.TEST.LONG_TAILED.GROUP_BOUNDS = [100, 200]  # which win over the json's own groups
    assert read_categories(cfg)[0]["frequency"] == "r"


def test_bad_input_is_one_line(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"Expected images at .*nothing"):
        run_command(
            "demo", command(tmp_path, weights, {}, "--input", str(tmp_path / "nothing.png"))
        )
    with pytest.raises(SystemExit, match="but got no weights"):
        run_command("demo", command(tmp_path, Path(), {}, "--input", __file__)[:-2])


@pytest.mark.parametrize("registered", [False, True])
def test_names_and_groups_come_with_the_checkpoint(
    registered: bool, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the configuration registers a training set that did not move along."""
    write_data_sets(tmp_path / "data")
    classes = ClassRecord(
        ("ant", "bee", "cat"), (1, 2, 3), ("frequent", "common", "rare"), (6, 2, 1), (6, 2, 1)
    )
    path = tmp_path / "model.pth"
    torch.save({**torch.load(weights), "classes": classes.to_plain()}, path)
    name = f"gone_{tmp_path.name}"  # detectron2's catalogue is global
    gone = {
        "DATASETS.REGISTER": [[name, str(tmp_path / "gone.json"), str(tmp_path)]],
        "DATASETS.TRAIN": (name,),
    }
    drawn = []
    monkeypatch.setattr(
        "balms_seg.report.instance_drawing.draw_instances",
        lambda pixels, found, categories, **look: drawn.append(categories) or pixels,
    )
    images = str(tmp_path / "data" / "val" / "1.png")
    run_command("demo", command(tmp_path, path, gone if registered else {}, "--input", images))
    assert drawn[0][2] == {"name": "cat", "frequency": "r"}
