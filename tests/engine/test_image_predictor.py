"""A trained classifier in use says what its evaluation said, under the classes' names."""

from __future__ import annotations

import csv
import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from image_runs import run_image_training
from image_sets import CLASSES, picture, write_folders
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from balms_seg.commands.command_line import run_command
from balms_seg.data.images.input_images import find_images
from balms_seg.engine import ImagePredictor

EXPORT_PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"
NAMES = ("käfer", "red fox", "zebra")
OF_ANY_SIZE = {"INPUT.IMAGES.IN_MEMORY": False, "INPUT.IMAGES.AUGMENTATIONS": ["crop_flip"]}


def write_named(folder: Path, counts: tuple[int, ...], size: int) -> Path:
    write_folders(folder, counts, size)
    for plain, name in zip(CLASSES, NAMES, strict=True):
        (folder / plain).rename(folder / name)
    return folder


def trained(folder: Path, size: int, **more: object) -> Path:
    """The output of a short run on images of a size, evaluated on others."""
    train, test = (write_named(folder / part, (8, 4, 2), size) for part in ("train", "test"))
    names = [f"{folder.name}_{size}_{part}" for part in ("train", "test")]
    settings = {
        "DATASETS.REGISTER_IMAGES": [[names[0], str(train), ""], [names[1], str(test), ""]],
        "DATASETS.TRAIN": (names[0],),
        "DATASETS.TEST": (names[1],),
        "SOLVER.MAX_ITER": 8,
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    run_image_training(settings, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module", params=["in memory", "of any size"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predicted")
    if request.param == "in memory":
        return trained(folder, 8)
    return trained(folder, 20, **{**OF_ANY_SIZE, "SOLVER.AMP.ENABLED": True})


def read_csv(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def test_three_lines_of_python_say_what_the_evaluation_said(run: Path) -> None:
    images = run.parent / "test"
    expected = read_csv(run / "inference" / "predictions_classification.csv")
    predictor = ImagePredictor.from_checkpoint(run)
    guesses = list(predictor(str(images / key) for key in expected))
    assert predictor.class_names == NAMES
    for guess, row in zip(guesses, expected.values(), strict=True):
        assert guess.path == str(images / row["path"])
        assert guess.names == tuple(row[f"class{rank}"] for rank in (1, 2, 3))
        assert guess.scores == pytest.approx([float(row[f"score{r}"]) for r in (1, 2, 3)], abs=2e-3)


def test_pixels_are_taken_as_files_are(run: Path) -> None:
    path = next((run.parent / "test" / NAMES[0]).iterdir())
    predictor = ImagePredictor.from_checkpoint(run / "model_final.pth", device="cpu")
    (of_file,) = predictor([path])
    (of_pixels,) = predictor([np.asarray(Image.open(path))])
    assert (of_pixels.names, of_pixels.scores) == (of_file.names, of_file.scores)
    assert of_pixels.path == ""


def test_the_command_writes_names_and_a_sheet(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(run.parent / "test", folder)
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("")
    (folder / ".hidden.png").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(next((folder / NAMES[1]).iterdir()), "inside.png")
    run_command(
        "predict", [str(run), str(folder), str(tmp_path / "more.zip"), "--output", str(tmp_path)]
    )
    rows = read_csv(tmp_path / "predictions.csv")
    assert len(rows) == 15
    inside, same = rows[f"{tmp_path}/more.zip/inside.png"], rows[f"{folder}/{NAMES[1]}/000.png"]
    assert inside["class1"] == same["class1"]
    assert float(inside["score1"]) == pytest.approx(float(same["score1"]), abs=1e-3)
    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        assert sheet.size[0] == 4 * 128
    shown = capsys.readouterr().out
    counts = {line[7:]: int(line[:6]) for line in shown.splitlines()[:-1]}
    assert sum(counts.values()) == 15
    assert set(counts) <= {*NAMES}


def test_demo_takes_a_configuration_and_weights(run: Path, tmp_path: Path) -> None:
    words = [
        "--config-file",
        str(run / "config.yaml"),
        "--num-gpus",
        "0",
        "--output",
        str(tmp_path),
    ]
    images = ["--input", str(run.parent / "test" / "*" / "000.png")]
    run_command("demo", [*words, *images, "--opts", "MODEL.WEIGHTS", str(run / "model_final.pth")])
    assert len(read_csv(tmp_path / "predictions.csv")) == 3


def test_what_is_not_there_is_told_in_a_line(run: Path, tmp_path: Path) -> None:
    for words, message in (
        ([str(run), str(tmp_path / "none.jpg")], "predict: Expected images at .*nothing there"),
        ([str(run), str(tmp_path)], "no image in it"),
        ([str(tmp_path), str(run.parent / "test")], "Expected checkpoints of a run"),
    ):
        with pytest.raises(SystemExit, match=message):
            run_command("predict", [*words, "--output", str(tmp_path / "out")])


def test_a_checkpoint_without_names_asks_for_them(run: Path, tmp_path: Path) -> None:
    content = torch.load(run / "model_final.pth", weights_only=False)
    kept = {key: content[key] for key in ("model", "config")}
    torch.save(kept, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="does not name its classes"):
        ImagePredictor.from_checkpoint(tmp_path / "model.pth")
    named = ImagePredictor.from_checkpoint(tmp_path / "model.pth", names=("a", "b", "c"))
    (guess,) = named([np.asarray(picture(0, 0))])
    assert set(guess.names) == {"a", "b", "c"}


def test_images_are_found_once_and_in_order(tmp_path: Path) -> None:
    write_folders(tmp_path / "a", (2, 1, 0))
    found = find_images([str(tmp_path / "a" / "bee" / "*.png"), str(tmp_path / "a")])
    assert [Path(path).relative_to(tmp_path / "a").as_posix() for path in found] == [
        *("bee/000.png", "ape/000.png", "ape/001.png")
    ]


def test_an_exported_program_gives_the_probabilities_by_name(run: Path, tmp_path: Path) -> None:
    predictor = ImagePredictor.from_checkpoint(run, device="cpu")
    predictor.export(tmp_path / "classifier.pt2")
    classes = {"classes.json": ""}
    program = torch.export.load(tmp_path / "classifier.pt2", extra_files=classes).module()
    assert tuple(json.loads(classes["classes.json"])) == NAMES
    images = [np.asarray(picture(label, 5)) for label in (0, 1, 2)]  # of SIZE px already
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    expected = predictor.model.probabilities(pixels)
    assert torch.allclose(program(pixels), expected, atol=1e-6)
    assert program(pixels[:1]).shape == (1, 3)


@pytest.mark.slow
def test_an_exported_program_becomes_onnx(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the lines of docs/export.md."""
    pytest.importorskip("onnxscript", reason="an export for those who have onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime", reason="runs the export")
    monkeypatch.chdir(tmp_path)
    predictor = ImagePredictor.from_checkpoint(run, device="cpu")
    predictor.export("classifier.pt2")
    section = EXPORT_PAGE.read_text().partition("## An image classifier as ONNX")[2]
    exec(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], {})
    session = onnxruntime.InferenceSession("classifier.onnx")
    for size in (1, 3):
        pixels = torch.stack([pil_to_tensor(picture(label, 5)) for label in range(size)])
        (found,) = session.run(None, {"images": pixels.numpy()})
        expected = predictor.model.probabilities(pixels)
        assert np.allclose(found, expected.detach().numpy(), atol=1e-6)
