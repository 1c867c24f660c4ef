"""Checking and linking the expected tree of data sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from balms_seg.data import preparation
from balms_seg.data.preparation import PARTS, Part, datasets_root, format_status, prepare

ROOT = Path(__file__).resolve().parents[2]
PAGE = "https://example.org/page"
IMAGES = Part("coco/val", "https://example.org/zips/val.zip", PAGE, 1, 2)
JSON = Part("lvis/val.json", "https://example.org/val.json.zip", PAGE, 0.25)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(preparation.PARTS, "small", (IMAGES, JSON))


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    folder = tmp_path / "downloads"
    (folder / "unpacked" / "val").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (folder / "unpacked" / "val" / name).touch()
    (folder / "val.json").write_text('{"images": []}\n')
    return folder


def problems(root: Path, *downloads: Path) -> list[str]:
    return [status.problem for status in prepare(["small"], root, downloads)]


def test_empty_tree_names_what_is_missing_and_where_it_is_from(tmp_path: Path) -> None:
    images, json_file = problems(tmp_path)
    assert images == f"val.zip of {PAGE} has it."
    assert json_file == f"val.json.zip of {PAGE} has it."


def test_what_is_missing_comes_with_the_commands_that_get_it(tmp_path: Path) -> None:
    said = format_status(prepare(["small"], tmp_path), tmp_path, ["small"]).splitlines()
    assert "this and take about 1.2 GB there until you remove them" in said[-5]
    assert said[-3:] == [
        f"  curl -LO https://example.org/zips/val.zip && mkdir -p {tmp_path}/coco"
        f" && unzip -qo val.zip -d {tmp_path}/coco",
        f"  curl -LO https://example.org/val.json.zip && mkdir -p {tmp_path}/lvis"
        f" && unzip -qo val.json.zip -d {tmp_path}/lvis",
        f"  python datasets/prepare_lvis_and_coco.py small --root {tmp_path}",
    ]


def test_an_archive_that_holds_several_parts_is_named_once(tmp_path: Path) -> None:
    missing, _ = format_status(prepare(["coco"], tmp_path), tmp_path, ["coco"]).split("\n\n")
    *_, train, val, archive, summary = missing.splitlines()
    assert train == "MISSING coco/annotations/instances_train2017.json, 0.45 GB unpacked"
    assert val == "MISSING coco/annotations/instances_val2017.json, 0.02 GB unpacked"
    assert archive.split()[0] == "annotations_trainval2017.zip"
    assert missing.count("annotations_trainval2017.zip") == 1
    assert summary.endswith("4 of 4 parts missing.")


def test_a_file_of_another_size_is_warned_of(tmp_path: Path, downloads: Path) -> None:
    def said(*folders: Path) -> str:
        return format_status(prepare(["small"], tmp_path, folders), tmp_path, ["small"])

    warning = "WARNING: it has 0.0 MB, but the published file about 250 MB"
    assert warning in said(downloads)
    assert warning in said()
    with (downloads / "val.json").open("r+b") as file:
        file.truncate(200_000_000)  # a hole
        file.seek(-1, os.SEEK_END)
        file.write(b"}")
    assert "WARNING" not in said()


def test_a_complete_tree_comes_with_the_command_that_trains(tmp_path: Path) -> None:
    assert format_status([], tmp_path, ["coco"]).endswith("complete.")
    *_, root, line = format_status([], tmp_path, ["lvis_v1"]).splitlines()
    assert root == f"  export DETECTRON2_DATASETS={tmp_path}"
    command = line.split()
    assert command[:3] == ["balms-seg", "train", "--config-file"]
    assert (ROOT / command[3]).is_file()


def test_downloads_are_linked_and_then_found(tmp_path: Path, downloads: Path) -> None:
    root = tmp_path / "root"
    statuses = prepare(["small"], root, [downloads])
    assert [status.linked_to for status in statuses] == [
        downloads / "unpacked" / "val",
        downloads / "val.json",
    ]
    assert (root / "coco" / "val" / "a.jpg").is_file()
    again = prepare(["small"], root)
    assert [(status.problem, status.linked_to) for status in again] == [("", None)] * 2
    assert format_status(again, root, ["small"]).endswith("complete.")


def test_folder_with_too_few_images_is_not_linked(tmp_path: Path, downloads: Path) -> None:
    (downloads / "unpacked" / "val" / "a.jpg").unlink()
    images, json_file = problems(tmp_path / "root", downloads)
    assert "holds 1 of 2 images" in images
    assert not (tmp_path / "root" / "coco").exists()
    assert json_file == ""


def test_truncated_json_is_not_linked(tmp_path: Path, downloads: Path) -> None:
    (downloads / "val.json").write_text('{"images": [')
    assert "is not a whole json file" in problems(tmp_path / "root", downloads)[1]


def test_archive_that_was_not_unpacked_is_pointed_out(tmp_path: Path, downloads: Path) -> None:
    (downloads / "val.json").rename(downloads / "val.json.zip")
    assert f"{downloads}/val.json.zip is there; unpack it." in problems(tmp_path, downloads)[1]


def test_what_is_in_the_tree_is_kept_and_checked(tmp_path: Path, downloads: Path) -> None:
    own = tmp_path / "lvis" / "val.json"
    own.parent.mkdir()
    own.write_text("{")
    assert "is not a whole json file" in problems(tmp_path, downloads)[1]
    assert own.read_text() == "{"
    assert not own.is_symlink()


def test_link_to_nowhere_is_named_and_replaced(tmp_path: Path, downloads: Path) -> None:
    link = tmp_path / "root" / "lvis" / "val.json"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "gone.json")
    assert f"links to {tmp_path}/gone.json, which does not exist" in problems(tmp_path / "root")[1]
    prepare(["small"], tmp_path / "root", [downloads])
    assert link.resolve() == downloads / "val.json"


def test_parts_that_sets_share_are_reported_once(tmp_path: Path) -> None:
    paths = [status.part.path for status in prepare(["coco", "lvis_v1", "lvis_v0.5"], tmp_path)]
    assert len(paths) == len(set(paths)) == 8


def test_root_is_detectron2s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", "~/data")
    assert datasets_root() == Path.home() / "data"
    monkeypatch.delenv("DETECTRON2_DATASETS")
    assert datasets_root() == Path("datasets")


def test_parts_are_where_detectron2_looks() -> None:
    builtin = pytest.importorskip("detectron2.data.datasets.builtin")
    expected = {json for _, json in builtin._PREDEFINED_SPLITS_LVIS["lvis_v1"].values()}
    expected |= {json for _, json in builtin._PREDEFINED_SPLITS_LVIS["lvis_v0.5"].values()}
    for split in ("coco_2017_train", "coco_2017_val"):
        expected |= {*builtin._PREDEFINED_SPLITS_COCO["coco"][split]}
    assert {part.path for parts in PARTS.values() for part in parts} - expected == {
        IMAGES.path,
        JSON.path,
    }


def run(*arguments: str, root: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / "datasets" / "prepare_lvis_and_coco.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DETECTRON2_DATASETS": str(root), "PYTHONPATH": str(ROOT)},
    )


def test_command_fails_while_something_is_missing(tmp_path: Path) -> None:
    result = run("lvis_v1", root=tmp_path)
    assert result.returncode == 1
    assert "MISSING lvis/lvis_v1_train.json" in result.stdout
    assert f"{tmp_path}: 4 of 4 parts missing." in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["lvis_v2"], "but got lvis_v2"), (["--from", "/no/such/folder"], "but /no/such/folder is")],
)
def test_command_with_wrong_arguments(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run(*arguments, root=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
