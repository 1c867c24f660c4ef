"""Arrays kept on disk: shared, made once by several processes, and never believed where damaged."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from annotation_files import HEIGHT, SQUARE_RUNS, WIDTH, content, write

from balms_seg.annotations import Annotations, cache, read_annotations, reader
from balms_seg.annotations.build import build_annotations
from balms_seg.annotations.sections import read_sections


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, which takes small files too; each read is of a new process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(reader, "MIN_CACHED_BYTES", 0)
    reader._read.cache_clear()
    reader.open_annotations.cache_clear()
    return tmp_path / "cache" / "balms_seg"


def read_anew(path: Path) -> Annotations:
    reader._read.cache_clear()
    return read_annotations(path)


def refuse(*_: object) -> None:
    raise AssertionError("the json was read")


@pytest.fixture
def json_file(tmp_path: Path) -> Path:
    """A file with every kind of mask and id."""
    changed = content()
    changed["annotations"][1]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": SQUARE_RUNS}
    changed["annotations"][2].update(segmentation=[[]], id="x")
    changed["images"][0].update(neg_category_ids=[7], not_exhaustive_category_ids=[])
    return write(tmp_path, changed)


def leaves(annotations: Annotations) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    cache._collect(annotations, "", arrays)
    return arrays


def same(first: Annotations, second: Annotations) -> bool:
    own, others = leaves(first), leaves(second)
    return own.keys() == others.keys() and all(
        own[name].dtype == others[name].dtype and own[name].tolist() == others[name].tolist()
        for name in own
    )


def test_a_second_start_reads_the_arrays_alone(
    json_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_annotations(read_sections(json_file), str(json_file))
    first = read_anew(json_file)
    monkeypatch.setattr(reader, "_build", refuse)
    second = read_anew(json_file)
    assert same(built, first)
    assert same(built, second)
    assert second.facts.categories == built.facts.categories
    assert second.run_lengths(1) == built.run_lengths(1)
    with pytest.raises(ValueError, match="read-only"):
        second.boxes[0] = 0


def test_another_content_of_the_same_size_and_time_is_read_anew(json_file: Path) -> None:
    before = json_file.stat()
    assert read_anew(json_file).boxes[0, 0] == 2
    json_file.write_text(json_file.read_text().replace("[2.0, 2.0, 8.0", "[3.0, 2.0, 8.0", 1))
    os.utime(json_file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert json_file.stat().st_size == before.st_size
    assert read_annotations(json_file).boxes[0, 0] == 3


def test_a_copy_uses_the_same_arrays(
    json_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_anew(json_file)
    copy = tmp_path / "copy.json"
    copy.write_bytes(json_file.read_bytes())
    monkeypatch.setattr(reader, "_build", refuse)
    assert same(read_annotations(copy), first)


@pytest.mark.parametrize("place", [0, 10, 30, 200, 0.3, 0.6, 0.9, -70])
def test_a_flipped_byte_is_noticed(
    json_file: Path, cache_folder: Path, place: float, caplog: pytest.LogCaptureFixture
) -> None:
    expected = read_anew(json_file)
    (file,) = cache_folder.glob("*.bin")
    whole = file.read_bytes()
    index = int(place * len(whole)) if isinstance(place, float) else place
    broken = bytearray(whole)
    broken[index] ^= 1
    file.unlink()  # the arrays of `expected` are mapped from it
    file.write_bytes(broken)
    again = read_anew(json_file)
    if file.read_bytes() == whole:
        assert "Ignoring the damaged cache" in caplog.text
    else:
        # Padding between the arrays is nobody's.
        assert not caplog.records
    assert same(again, expected)


@pytest.mark.parametrize("length", [0, 5, 60, 500, -1, -200])
def test_a_cut_file_is_made_anew(json_file: Path, cache_folder: Path, length: int) -> None:
    expected = read_anew(json_file)
    (file,) = cache_folder.glob("*.bin")
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(whole[:length] if length >= 0 else whole[: len(whole) + length])
    assert same(read_anew(json_file), expected)
    assert same(cache.load(file, verify=True), expected)


def test_a_folder_that_cannot_be_written_is_a_warning(
    json_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("no folder")
    assert len(read_anew(json_file)) == 3
    assert "Could not keep annotations" in caplog.text


def test_pickles_name_the_file_and_survive_its_loss(json_file: Path, cache_folder: Path) -> None:
    instances = pytest.importorskip("balms_seg.data.instances.dataset_dicts")
    dicts = instances.load_annotations(json_file, "root")[1:].with_masks(False)
    expected = list(dicts)
    pickled = pickle.dumps(dicts)
    assert len(pickled) < 2000
    assert list(pickle.loads(pickled)) == expected
    for file in cache_folder.glob("*.bin"):
        file.unlink()
    reader.open_annotations.cache_clear()
    assert list(pickle.loads(pickled)) == expected


PROGRAM = """
import sys, time
from pathlib import Path
from balms_seg.annotations import reader
reader.MIN_CACHED_BYTES = 0
build = reader._build
def slow(path):
    print("built", flush=True)
    time.sleep(1)
    return build(path)
reader._build = slow
while time.time() < float(sys.argv[2]):
    pass
print(len(reader.read_annotations(sys.argv[1])))
"""


def test_of_processes_that_start_at_once_one_builds(json_file: Path, cache_folder: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    start = str(time.time() + 6)
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(json_file), start],
            stdout=subprocess.PIPE,
            cwd=root,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = [run.communicate(timeout=120)[0].split() for run in runs]
    assert [output[-1] for output in outputs] == ["3"] * 3
    assert sum("built" in output for output in outputs) == 1
    assert len(list(cache_folder.glob("*.bin"))) == 1
    assert not list(cache_folder.glob("*.tmp"))


def test_a_large_file_decodes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = content()
    whole["annotations"] = [
        {**whole["annotations"][number % 3], "id": number + 1} for number in range(25)
    ]
    path = tmp_path / "set.json"
    path.write_text(json.dumps(whole))
    expected = read_anew(path)
    monkeypatch.setattr("balms_seg.annotations.annotation_columns._AT_ONCE", 4)
    assert same(build_annotations(read_sections(path), str(path)), expected)


def test_a_copy_of_a_file_goes_by_its_own_path(json_file: Path, tmp_path: Path) -> None:
    read_anew(json_file)
    copy = tmp_path / "copy.json"
    copy.write_bytes(json_file.read_bytes())
    kept = read_anew(copy)
    assert kept.facts.source == str(copy)
    assert kept.cache_file is not None
    opened = reader.open_annotations(kept.cache_file, str(json_file))
    assert opened.facts.source == str(json_file)
    assert same(kept, opened)
