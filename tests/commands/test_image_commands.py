"""Commands on sets of images and on runs of image classifiers."""

from __future__ import annotations

import ast
import csv
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_sets import CLASSES, write_folders, write_zip
from PIL import Image

from balms_seg.commands.command_line import run_command
from balms_seg.data import register_images
from balms_seg.data.images.contact_sheet import _font
from balms_seg.data.images.image_lists import read_image_records
from balms_seg.evaluation import write_results
from balms_seg.evaluation.images.accuracy import classification_rows, evaluate_classification
from balms_seg.evaluation.images.classifier_predictions import (
    NPZ_FILE,
    ClassifierPredictions,
    StoredPredictions,
    read_predictions,
    write_predictions,
)
from balms_seg.evaluation.images.paired_accuracy import require_same_images
from balms_seg.evaluation.output.per_class import write_per_class_json

COUNTS = (12, 6, 4)
DATASET = "commands_on_images"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_folders(folder / "test", COUNTS)
    write_zip(folder / "IMAGES.ZIP", {"train": COUNTS})
    return folder


def write_run(folder: Path, images: Path, num_right: int, *, backwards: bool = False) -> Path:
    """A run that gets the first images of each class right, and the rest one class too far."""
    records = read_image_records(str(images / "test"), "").records
    records = records[::-1] if backwards else records
    labels = np.array([record["label"] for record in records])
    places = np.array([int(Path(record["key"]).stem) for record in records])
    predicted = np.where(places < num_right, labels, (labels + 1) % 3)
    probabilities = np.full((len(labels), 3), 0.1)
    probabilities[np.arange(len(labels)), predicted] = 0.8 - 0.01 * places
    probabilities /= probabilities.sum(1, keepdims=True)
    keys = [record["key"] for record in records]
    judged = ClassifierPredictions.from_probabilities(
        probabilities, labels, np.arange(len(labels)), keys
    )
    result = evaluate_classification(judged, 3, {})
    inference = folder / "inference"
    inference.mkdir(parents=True)
    write_predictions(inference, StoredPredictions(judged, CLASSES, ("many", "few", "few")))
    rows = classification_rows(result, CLASSES, None)
    write_per_class_json(inference / "per_class_classification.json", rows, task="classification")
    write_results(
        folder / "results.json",
        metrics={DATASET: {"classification": result.metrics}},
        config=f"DATASETS:\n  REGISTER_IMAGES: [[{DATASET}, '{images}/test', '']]\n",
    )
    return folder


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    run_command(str(words[0]), [str(word) for word in words[1:]])
    return capsys.readouterr().out


def table(text: str) -> dict[str, list[str]]:
    """Cells behind the first one of each line of a printed table."""
    lines = [line.split("|") for line in text.splitlines() if line.startswith("|")]
    return {line[1].strip(): [cell.strip() for cell in line[2:-1]] for line in lines}


@pytest.mark.parametrize("form", ["folder", "zip", "list"])
def test_statistics_of_images_in_every_form(
    form: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.txt").write_text(
        "".join(
            f"{name}/{number:03}.png\t{name}\n"
            for name, count in zip(CLASSES, COUNTS, strict=True)
            for number in range(count)
        )
    )
    source, root = {
        "folder": (images / "test", ""),
        "zip": (images / "IMAGES.ZIP", "train"),
        "list": (tmp_path / "list.txt", images / "test"),
    }[form]
    text = printed(capsys, "statistics", source, "--root", root, "--csv", tmp_path / "out.csv")
    assert text.startswith("3 classes, 22 images with annotations, 22 instances")
    with (tmp_path / "out.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert {name: int(row["image_count"]) for name, row in rows.items()} == dict(
        zip(CLASSES, COUNTS, strict=True)
    )


def test_statistics_say_how_to_see_every_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folders(tmp_path / "all", COUNTS)
    said = "all 3 classes: --csv FILE, or --list with a larger number\n"
    assert printed(capsys, "statistics", tmp_path / "all", "--list", "1").endswith(said)
    assert said not in printed(capsys, "statistics", tmp_path / "all")
    none = printed(capsys, "statistics", tmp_path / "all", "--list", "0")
    assert not any(name in none for name in CLASSES)


def test_statistics_of_registered_sets_match_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folders(tmp_path / "all", COUNTS)
    write_folders(tmp_path / "fewer", (0, 2, 3))
    (tmp_path / "fewer" / CLASSES[0]).rmdir()
    names = [f"{tmp_path.name}_{part}" for part in ("all", "fewer")]
    for name, part in zip(names, ("all", "fewer"), strict=True):
        register_images(name, str(tmp_path / part))
    printed(capsys, "statistics", "--dataset", *names, "--csv", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        counted = {row["name"]: int(row["image_count"]) for row in csv.DictReader(file)}
    assert counted == dict(zip(CLASSES, (12, 8, 7), strict=True))


@pytest.mark.parametrize(("source", "root"), [("test", ""), ("IMAGES.ZIP", "train")])
def test_a_split_is_two_lists_that_hold_all_images_once(
    source: str, root: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["split", images / source, "--root", root, "--held-out", 0.25, "--output", tmp_path]
    text = printed(capsys, *words)
    (given,) = re.findall(r"^DATASETS.REGISTER_IMAGES (.*)$", text, re.MULTILINE)
    entries = ast.literal_eval(shlex.split(given)[0])
    assert entries == [
        [f"my_{part}", str(tmp_path / f"{part}.txt"), str(images / source)]
        for part in ("train", "held_out")
    ]
    assert "train.txt: 16 images of 3 classes" in text
    assert "held_out.txt: 6 images of 3 classes" in text
    parts = [
        read_image_records(str(tmp_path / f"{name}.txt"), str(images / source))
        for name in ("train", "held_out")
    ]
    whole = read_image_records(str(images / source), root)
    assert parts[0].class_names == parts[1].class_names == whole.class_names
    found = [record for part in parts for record in part.records]
    by_key = {record["key"]: record for record in whole.records}
    assert len(found) == len(by_key) == 22
    assert all(by_key[record["key"]] == record for record in found)


def test_two_classifiers_are_compared_by_the_paths_of_images(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_run(tmp_path / "a", images, 3)
    second = write_run(tmp_path / "b", images, 3, backwards=True)
    better = write_run(tmp_path / "c", images, 11, backwards=True)
    same = printed(capsys, "compare", first, second)
    assert "22 images" in same
    assert {row[2] for name, row in table(same).items() if "top1" in name} == {"+0.00"}
    cells = table(printed(capsys, "compare", first, better))
    assert cells["top1"][:3] == ["40.91", "95.45", "+54.55"]
    assert cells["top1"][4:6] == ["0", "12"]
    assert cells["top1"][-1] == "yes"
    assert cells["top1-few"][:2] == ["62.50", "100.00"]


def test_pairs_of_classifiers_are_compared_over_their_seeds(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """18 and 9 of 22 images, so differences of 54.5 and 0, whose standard error is their mean."""
    low = [write_run(tmp_path / name, images, 3) for name in "ab"]
    high = [write_run(tmp_path / "c", images, 11), write_run(tmp_path / "d", images, 3)]
    run_command("compare", [*map(str, low), "--with", *map(str, high)])
    out = capsys.readouterr().out
    assert "accuracy, 22 images (inference); differences: B minus A" in out
    cells = table(out)["top1"]
    assert cells[:5] == ["40.91", "68.18", "+54.55", "+0.00", "+27.27"]
    ends = [float(end) for end in cells[5].split(" to ")]
    reach = 12.706 * 27.27
    assert ends == pytest.approx([27.27 - reach, 27.27 + reach], abs=0.1)
    assert cells[6] == "no"


def test_a_folder_of_the_registration_is_no_other_image(images: Path, tmp_path: Path) -> None:
    """photos/test, and photos with the root test."""
    runs = [
        read_predictions(write_run(tmp_path / n, images, 3) / "inference" / NPZ_FILE) for n in "ab"
    ]
    inside = replace(runs[1].predictions, keys=np.char.add("test/", runs[1].predictions.keys))
    below = replace(runs[1], predictions=inside)
    for pair in ((runs[0], below), (below, runs[0])):
        assert require_same_images(*pair).tolist() == list(range(22))
    val = replace(
        below, predictions=replace(inside, keys=np.char.add("val/", runs[1].predictions.keys))
    )
    with pytest.raises(ValueError, match="only in the first"):
        require_same_images(below, val)


def test_thresholds_are_not_for_classifiers(images: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", images, 3)
    with pytest.raises(SystemExit, match="is of an image classifier.*balms-seg calibrate"):
        run_command("thresholds", [str(run)])


def test_runs_on_other_images_are_refused_in_one_line(images: Path, tmp_path: Path) -> None:
    write_folders(tmp_path / "test", (12, 6, 3))
    first, second = write_run(tmp_path / "a", images, 3), write_run(tmp_path / "b", tmp_path, 3)
    with pytest.raises(SystemExit, match=r"compare: .*only in the first: 1 \(cat/003.png\)"):
        run_command("compare", [str(first), str(second)])


def test_names_on_pictures_may_have_any_letters() -> None:
    pytest.importorskip("matplotlib")
    assert _font().getname()[0] == "DejaVu Sans"


def test_pictures_show_the_worst_classes_and_images_first(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(
        "balms_seg.engine.judged_images.draw_sheet",
        lambda tiles, **options: drawn.append(tiles) or Image.new("RGB", (4, 4)),
    )
    run = write_run(tmp_path / "run", images, 3)
    output = tmp_path / "pictures"
    run_command("visualize results", [str(run), "--output", str(output)])
    assert sorted(path.name for path in output.iterdir()) == [
        *("000_ape.png", "001_bee.png", "002_cat.png")
    ]
    lines = [(tile.lines[0], tile.lines[-1]) for tile in drawn[2]]
    assert lines[0] == ("ape 0.79", "cat/003.png")  # the only wrong one, then the least sure
    assert [line[1] for line in lines[1:]] == ["cat/002.png", "cat/001.png", "cat/000.png"]
    assert len({tile.color for tile in drawn[2]}) == 2


@pytest.mark.parametrize("is_registered", [False, True])
def test_statistics_name_what_is_missing_or_unreadable(
    is_registered: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_folders(tmp_path, (2, 1, 1))
    path = tmp_path / CLASSES[0] / "001.png"
    path.write_bytes(b"nothing")
    listed = tmp_path / "list.txt"
    listed.write_text(f"{CLASSES[0]}/000.png 0\n{CLASSES[0]}/001.png 0\ngone.png 1\n")
    if is_registered:
        register_images(f"{tmp_path.name}_list", str(listed))
    run_command(
        "statistics", ["--dataset", f"{tmp_path.name}_list"] if is_registered else [str(listed)]
    )
    assert "1 of 3 images is missing" in caplog.text
    assert "gone.png" in caplog.text
    assert "1 of 2 images cannot be used" in caplog.text
    assert "001.png" in caplog.text
