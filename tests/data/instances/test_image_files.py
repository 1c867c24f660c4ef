"""Images that lie under another name than the json's are found, and the error says how."""

from __future__ import annotations

import json
import pickle
import unicodedata
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("detectron2")

from small_sets import coco_style, write_set

from balms_seg.annotations.image_files import find_alike
from balms_seg.data import load_annotations
from balms_seg.data.preflight.image_file_checks import describe_missing

NAMES = {"c.png": "Straße 1.png", "a.png": "b/é.png", "b.png": "x.png"}
CHANGES = {
    "label_studio": (lambda name: "images\\" + name.replace("/", "\\"), "Windows separators"),
    "another_machine": (lambda name: f"/data/upload/4/{name}", "the folders"),
    "windows_drive": (lambda name: "C:\\Users\\me\\" + name.replace("/", "\\"), "Windows"),
    "case": (lambda name: f"gone/{name.upper()}", "letter case"),
    "quoted": (lambda name: f"gone/{quote(name)}", "%20 and the like"),
    "nfd": (lambda name: f"gone/{unicodedata.normalize('NFD', name)}", "Unicode form"),
}


def written(tmp_path: Path, change: str) -> Path:
    """A set whose files lie below images/, with names in the json that are changed."""
    content = coco_style()
    for image in content["images"]:
        image["file_name"] = NAMES[image["file_name"]]
    for name in NAMES.values():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
    write_set(tmp_path, content)
    for image in content["images"]:
        image["file_name"] = CHANGES[change][0](image["file_name"])
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("change", CHANGES)
def test_names_of_other_machines_are_matched_by_their_last_part(
    change: str, tmp_path: Path
) -> None:
    path = written(tmp_path, change)
    records = load_annotations(path, tmp_path / "images", match_file_names="basename")
    expected = [str(tmp_path / "images" / NAMES[name]) for name in ("a.png", "b.png", "c.png")]
    assert [record["file_name"] for record in records] == expected
    assert [r["file_name"] for r in pickle.loads(pickle.dumps(records))] == expected
    assert [r["file_name"] for r in records.with_masks(False)] == expected


@pytest.mark.parametrize("change", CHANGES)
def test_without_matching_the_error_says_where_they_lie(change: str, tmp_path: Path) -> None:
    records = load_annotations(written(tmp_path, change), tmp_path / "images")
    missing = [r["file_name"] for r in records if not Path(r["file_name"]).is_file()]
    sentence = describe_missing(missing, 3, str(tmp_path / "images"))
    assert CHANGES[change][1] in sentence
    assert "set DATASETS.MATCH_FILE_NAMES to basename" in sentence


def test_sizes_that_the_json_lacks_come_from_the_matched_files(tmp_path: Path) -> None:
    path = written(tmp_path, "label_studio")
    path.write_text(path.read_text().replace('"height": 16, ', ""))
    records = load_annotations(path, tmp_path / "images", match_file_names="basename")
    assert {(record["width"], record["height"]) for record in records} == {(20, 16)}


def test_of_several_files_the_one_with_more_folders_in_common_is_taken(tmp_path: Path) -> None:
    for folder in ("cats", "dogs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_bytes(b"")
    names = [f"D:\\set\\{folder}\\1.jpg" for folder in ("cats", "dogs")]
    expected = {n: str(tmp_path / n.split("\\")[2] / "1.jpg") for n in names}
    assert find_alike(names, tmp_path) == expected
    assert find_alike(["/elsewhere/1.jpg"], tmp_path) == {}


def test_a_folder_named_twice_is_found_below_a_relative_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    monkeypatch.chdir(tmp_path)
    assert find_alike(["images/images/a.jpg"], "images") == {"images/images/a.jpg": "images/a.jpg"}


def test_two_names_never_get_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"")
    assert find_alike(["cats/1.jpg", "dogs/1.jpg"], tmp_path) == {}
