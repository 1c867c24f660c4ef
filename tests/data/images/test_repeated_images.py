"""One picture under two classes is told, however the set is stored."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from image_sets import CLASSES, write_folders

from balms_seg.commands.command_line import run_command
from balms_seg.data.images.image_lists import read_image_records
from balms_seg.data.images.repeated_images import describe_repeated


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copies under two classes, and under one, where they do no harm."""
    write_folders(tmp_path / "set", (3, 3, 3))
    ape, bee, cat = (tmp_path / "set" / name for name in CLASSES)
    shutil.copy(ape / "001.png", bee / "copied.png")
    shutil.copy(cat / "000.png", cat / "again.png")
    content = bytearray((ape / "002.png").read_bytes())
    content[-20] ^= 1  # as long, and another picture
    (bee / "near.png").write_bytes(content)
    return tmp_path / "set"


@pytest.mark.parametrize("form", ["folder", "zip", "list"])
def test_copies_under_two_classes_are_named(form: str, folder: Path) -> None:
    source = str(folder)
    if form == "zip":
        source = shutil.make_archive(str(folder), "zip", folder)
    elif form == "list":
        paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
        (folder / "list.txt").write_text("".join(f"{p}\t{p.split('/')[0]}\n" for p in paths))
        source = str(folder / "list.txt")
    whole = read_image_records(source, "")
    found = describe_repeated(whole.records, whole.class_names)
    assert found.startswith("1 picture is in several classes")
    assert "ape/001.png (ape) and " in found
    assert "bee/copied.png (bee)" in found


def test_a_set_without_copies_says_nothing(folder: Path) -> None:
    (folder / CLASSES[1] / "copied.png").unlink()
    whole = read_image_records(str(folder), "")
    assert describe_repeated(whole.records, whole.class_names) is None


def test_statistics_tell_of_copies(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_command("statistics", [str(folder)])
    assert "byte for byte" in caplog.text
