"""A set as people bring it goes through every command, and every number is checked by name.

Grey, transparent, CMYK and turned pictures, .TIF, hidden files, a class of one image, a test set
that lacks a class and is read in another order; as folders, as a zip of Windows, and as lists.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from documented_commands import commands_of
from made_up_data import words
from PIL import Image

from balms_seg.commands.command_line import main, run_command

SIZE = 12
TRAIN = {"Bär": 9, "one": 1, "red fox": 5, "zebra": 3}
# By thirds of the classes: up to 3 training images, up to 5, more.
GROUPS = {"one": "few", "zebra": "few", "red fox": "medium", "Bär": "many"}
TEST = {"Bär": 4, "red fox": 3, "zebra": 2}  # "one" is missing
FORMS = ("folder", "zip", "list")
SMALL = {
    "MODEL.IMAGE_CLASSIFIER.BACKBONE": "cifar_resnet32",
    "MODEL.IMAGE_CLASSIFIER.PRETRAINED": False,
    "INPUT.IMAGES.SIZE": 8,
    "SOLVER.IMS_PER_BATCH": 6,
    "SOLVER.EPOCHS": 4,
    "DATALOADER.NUM_WORKERS": 0,
}


def save_picture(path: Path, label: int, number: int) -> None:
    """A picture in the kind of file that the number asks for."""
    rng = np.random.default_rng(100 * label + number)
    pixels = rng.integers(0, 60, (SIZE, SIZE + 4, 3)) + 60 * label
    pixels[:4, :4] = 250  # so that a turned picture is another one
    image = Image.fromarray(pixels.astype(np.uint8))
    kind = number % 5
    if kind == 0:
        image.convert("L").save(path.with_suffix(".png"))
    elif kind == 1:
        image.putalpha(Image.fromarray((pixels[..., 0] % 256).astype(np.uint8)))
        image.save(path.with_suffix(".PNG"))
    elif kind == 2:
        image.convert("CMYK").save(path.with_suffix(".jpg"))
    elif kind == 3:
        exif = Image.Exif()
        exif[0x0112] = 6
        lying = image.transpose(Image.Transpose.ROTATE_90)
        lying.save(path.with_suffix(".jpeg"), exif=exif, quality=100)
    else:
        image.save(path.with_suffix(".TIF"))


def write_set(folder: Path) -> None:
    for part, counts in (("train", TRAIN), ("test", TEST)):
        for name, count in counts.items():
            own = folder / part / name
            own.mkdir(parents=True)
            for number in range(count):
                start = 50 if part == "test" else 0
                save_picture(own / f"{number}", list(TRAIN).index(name), start + number)
            (own / ".DS_Store").write_bytes(b"")
            (own / "notes.txt").write_text("nothing to see")
        (folder / part / ".ipynb_checkpoints").mkdir()
        Image.new("RGB", (4, 4)).save(folder / part / ".ipynb_checkpoints" / "0.png")


def pictures(folder: Path, part: str) -> list[Path]:
    found = [path for path in (folder / part).rglob("*") if path.is_file()]
    return sorted(path for path in found if path.suffix.lower() != ".txt" and "/." not in str(path))


def write_zip(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, "./" + file.relative_to(folder).as_posix().replace("/", "\\"))
        archive.writestr("__MACOSX/train/._0.png", b"")


def write_list(folder: Path, path: Path, part: str, *, backwards: bool = False) -> None:
    lines = [f"{p.relative_to(folder).as_posix()}\t{p.parent.name}" for p in pictures(folder, part)]
    path.write_text("\n".join(lines[::-1] if backwards else lines), encoding="utf-8-sig")


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set in its three forms."""
    base = tmp_path_factory.mktemp("brought")
    write_set(base / "photos")
    write_zip(base / "photos", base / "PHOTOS.ZIP")
    for part in ("train", "test"):
        write_list(base / "photos", base / f"{part}.txt", part)
    write_list(base / "photos", base / "backwards.txt", "test", backwards=True)
    return base


def source_and_root(base: Path, form: str, part: str) -> tuple[str, str]:
    return {
        "folder": (str(base / "photos"), part),
        "zip": (str(base / "PHOTOS.ZIP"), part),
        "list": (str(base / f"{part}.txt"), str(base / "photos")),
    }[form]


def train(base: Path, form: str) -> Path:
    """A short run on one form of the set."""
    names = [f"{base.name}_{form}_{part}" for part in ("train", "test")]
    sets = [
        [name, *source_and_root(base, form, part)]
        for name, part in zip(names, ("train", "test"), strict=True)
    ]
    output = base / f"run_{form}"
    settings = {
        **SMALL,
        "DATASETS.REGISTER_IMAGES": sets,
        "DATASETS.TRAIN": (names[0],),
        "DATASETS.TEST": (names[1],),
        "OUTPUT_DIR": str(output),
    }
    config = ["--config-file", "configs/custom/image_classifier_small_cpu.yaml", "--num-gpus", "0"]
    run_command("train", [*config, *words(settings)])
    return output


@pytest.fixture(scope="module")
def runs(brought: Path) -> dict[str, Path]:
    return {form: train(brought, form) for form in FORMS}


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def predictions_of(run: Path) -> dict[str, dict[str, str]]:
    rows = read_csv(run / "inference" / "predictions_classification.csv")
    return {row["path"]: row for row in rows}


@pytest.mark.parametrize("form", FORMS)
def test_statistics_count_each_class_by_name(form: str, brought: Path, tmp_path: Path) -> None:
    source, root = source_and_root(brought, form, "train")
    run_command("statistics", [source, "--root", root, "--csv", str(tmp_path / "out.csv")])
    counted = {row["name"]: int(row["image_count"]) for row in read_csv(tmp_path / "out.csv")}
    assert counted == TRAIN
    grouped = {row["name"]: row["group"] for row in read_csv(tmp_path / "out.csv")}
    assert grouped == GROUPS


def test_all_forms_are_one_set(runs: dict[str, Path], brought: Path) -> None:
    whole = predictions_of(runs["folder"])
    assert set(whole) == {
        path.relative_to(brought / "photos").as_posix()
        for path in pictures(brought / "photos", "test")
    }
    for form in ("zip", "list"):
        assert predictions_of(runs[form]) == whole


@pytest.mark.parametrize("form", FORMS)
def test_the_numbers_are_those_of_the_predictions(form: str, runs: dict[str, Path]) -> None:
    rows = predictions_of(runs[form])
    assert all(row["label"] == Path(path).parent.name for path, row in rows.items())
    images = Counter(row["label"] for row in rows.values())
    right = Counter(row["label"] for row in rows.values() if row["label"] == row["class1"])
    said = Counter(row["class1"] for row in rows.values())
    assert images == TEST
    per_class = {
        row["name"]: row
        for row in read_csv(runs[form] / "inference" / "per_class_classification.csv")
    }
    assert list(per_class) == list(TRAIN)
    for name, row in per_class.items():
        assert int(row["train_image_count"]) == TRAIN[name]
        assert int(row["val_images"]) == images[name]
        assert int(row["predicted_images"]) == said[name]
        if name == "one":
            assert row["accuracy"] == "n/a"
        else:
            assert float(row["accuracy"]) == pytest.approx(
                100 * right[name] / images[name], abs=1e-4
            )
    assert {name: row["group"] for name, row in per_class.items()} == GROUPS
    log = (runs[form] / "log.txt").read_text(encoding="utf-8")
    assert "Training images a class: many 9-9, medium 5-5, few 1-3" in log
    results = json.loads((runs[form] / "results.json").read_text())
    ((_, metrics),) = results["metrics"].items()
    found = metrics["classification"]
    assert found["top1"] == pytest.approx(100 * right.total() / images.total())
    assert found["top5"] == 100  # of four classes
    for group, name in (("few", "zebra"), ("medium", "red fox"), ("many", "Bär")):
        assert found[f"top1-{group}"] == pytest.approx(100 * right[name] / images[name])
    ((_, sizes),) = results["group_sizes"].items()
    assert sizes["few"] == {"classes": 2, "with_ground_truth": 1}


def test_another_order_changes_nothing(
    runs: dict[str, Path],
    brought: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Evaluated on the test images backwards, without the training set."""
    output = brought / "backwards"
    name = f"{brought.name}_backwards"
    settings = {
        "DATASETS.REGISTER_IMAGES": [
            [name, str(brought / "backwards.txt"), str(brought / "photos")]
        ],
        "DATASETS.TRAIN": (),
        "DATASETS.TEST": (name,),
        "MODEL.WEIGHTS": str(runs["folder"] / "model_final.pth"),
        "OUTPUT_DIR": str(output),
    }
    config = ["--config-file", str(runs["folder"] / "config.yaml"), "--num-gpus", "0"]
    run_command("train", ["--eval-only", *config, *words(settings)])
    again, before = predictions_of(output), predictions_of(runs["folder"])
    assert list(again) == list(before)[::-1]
    assert {path: row["class1"] for path, row in again.items()} == {
        path: row["class1"] for path, row in before.items()
    }
    metrics = [
        next(iter(json.loads((run / "results.json").read_text())["metrics"].values()))
        for run in (runs["folder"], output)
    ]
    assert metrics[1]["classification"] == pytest.approx(metrics[0]["classification"], abs=1e-3)
    capsys.readouterr()
    run_command("compare", [str(runs["folder"]), str(output)])
    shown = capsys.readouterr().out
    lines = [line.split("|") for line in shown.splitlines() if re.search(r"\| +[+-]", line)]
    changes = {line[1].strip(): float(line[4]) for line in lines}
    assert list(changes) == [
        *("top1", "balanced", "top1-many", "top1-medium", "top1-few"),
        *("ece", "nll"),
    ]
    assert changes == pytest.approx(dict.fromkeys(changes, 0), abs=0.011)
    assert "run_folder and backwards evaluate the same weights" in shown
    monkeypatch.setattr("balms_seg.report.page._plotting_script", lambda: "")
    run_command("report", [str(runs["folder"]), str(output)])
    page = (runs["folder"] / "report.html").read_text()
    assert "backwards against run_folder: top-1 +0.0 (+0.0 to +0.0, within chance)" in page


def test_the_report_tells_each_class_by_name(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balms_seg.report.page._plotting_script", lambda: "")
    run_command("report", [str(runs["zip"])])
    page = (runs["zip"] / "report.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    rows = {row["name"]: row for row in data["classes"]}
    assert {name: row["images"] for name, row in rows.items()} == TRAIN
    assert {name: row["objects"] for name, row in rows.items()} == {**TEST, "one": 0}
    assert rows["one"]["accuracy0"] is None


def test_predictions_on_the_images_are_those_of_the_evaluation(
    runs: dict[str, Path], brought: Path, tmp_path: Path
) -> None:
    run_command(
        "predict", [str(runs["list"]), str(brought / "photos" / "test"), "--output", str(tmp_path)]
    )
    before = predictions_of(runs["list"])
    found = {
        Path(row["path"]).relative_to(brought / "photos").as_posix(): row
        for row in read_csv(tmp_path / "predictions.csv")
    }
    assert set(found) == set(before)
    for path, row in found.items():
        assert row["class1"] == before[path]["class1"]
        assert float(row["score1"]) == pytest.approx(float(before[path]["score1"]), abs=1e-4)


@pytest.fixture
def named_as_in_the_document() -> Iterator[None]:
    """detectron2's catalogue is global."""
    yield
    for name in ("my_train", "my_held_out", "my_test"):
        DatasetCatalog.remove(name)


@pytest.mark.usefixtures("named_as_in_the_document")
def test_the_documents_commands_work_as_they_are_written(
    brought: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the training gets a smaller network, which has no weights to download."""
    shutil.copytree(brought / "photos", tmp_path / "photos")
    shutil.copytree(brought / "photos" / "test" / "zebra", tmp_path / "new_photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("balms_seg.report.page._plotting_script", lambda: "")
    shown = {}
    for program, *arguments in commands_of("docs/own_images.md"):
        assert program == "balms-seg"
        if arguments[0] == "features":
            break  # a walk of its own, see test_feature_files.py
        is_training = arguments[0] == "train" and "--eval-only" not in arguments
        main([*arguments, *(words(SMALL) if is_training else [])])
        shown[arguments[0]] = capsys.readouterr().out
        if is_training:
            of_run = (tmp_path / "output" / "photos" / "results.json").read_bytes()
        if is_training:
            main(["statistics", "--config-file", "output/photos/config.yaml", "--list", "1"])
            assert "few up to 2 images, medium up to 4, many more" in capsys.readouterr().out
    assert "held_out.txt: 3 images of 3 classes" in shown["split"]
    assert "REGISTER_IMAGES \"[['my_train'" in shown["split"]
    assert "3 images of my_held_out" in shown["calibrate"]
    assert (tmp_path / "output" / "photos" / "results.json").read_bytes() == of_run
    assert "output/photos_calibrated/inference, 9 images" in shown["compare"]
    assert len(list((tmp_path / "output" / "worst_photos").iterdir())) == len(TEST)
    found = read_csv(tmp_path / "output" / "found" / "predictions.csv")
    assert len(found) == TEST["zebra"]
    evaluated = predictions_of(tmp_path / "output" / "photos_calibrated")
    for row in found:
        own = evaluated[row["path"].replace("new_photos", "test/zebra")]
        assert row["class1"] == own["class1"]
        assert float(row["score1"]) == pytest.approx(float(own["score1"]), abs=1e-4)
