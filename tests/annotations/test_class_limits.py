"""Files with more classes, or longer names, than there are: refused soon, in one short line."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from balms_seg.annotations import AnnotationError, read_annotations
from balms_seg.annotations.class_limits import MAX_CLASSES, MAX_NAME_LENGTH
from balms_seg.data.images.image_lists import read_image_records

LONG = "x" * (MAX_NAME_LENGTH + 1)


def write_json(path: Path, names: Iterator[str] | list[str]) -> Path:
    with path.open("w") as file:
        file.write('{"images": [{"id": 1, "file_name": "1.png", "height": 9, "width": 9}], ')
        file.write('"annotations": [{"id": 1, "image_id": 1, "category_id": 0, ')
        file.write('"bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}], "categories": [')
        for number, name in enumerate(names):
            file.write(f'{", " * bool(number)}{{"id": {number}, "name": {json.dumps(name)}}}')
        file.write("]}")
    return path


def test_more_classes_than_there_are_is_refused(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", map(str, range(MAX_CLASSES + 1)))
    with pytest.raises(AnnotationError, match=f"at most {MAX_CLASSES} classes in .*a.json"):
        read_annotations(path)


def test_a_long_class_name_is_refused_and_cut_in_the_message(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", ["cat", LONG])
    with pytest.raises(AnnotationError, match="that of class 1 has 1001") as error:
        read_annotations(path)
    assert len(str(error.value)) < 400
    assert read_annotations(write_json(tmp_path / "b.json", ["cat", LONG[1:]])).num_classes == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png 999999999999\n", "at most 100000 classes"),
        (f"a.png\t{LONG}\n", "that of class 0 has 1001"),
        (f'# classes: ["cat", "{LONG}"]\na.png 0\n', "that of class 1 has 1001"),
        (f'# classes: ["cat"]\na.png\t{LONG}\n', "that of class 0 has 1001"),
    ],
    ids=["number", "label", "named", "unknown"],
)
def test_a_list_of_images_keeps_to_the_same_bounds(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_image_records(str(tmp_path / "list.txt"), "")
    assert len(str(error.value)) < 400


COMMANDS = {
    "statistics": ["statistics", "{path}"],
    "training": [
        "train",
        "--config-file",
        "toy/demo.yaml",
        "--num-gpus",
        "0",
        "OUTPUT_DIR",
        "{out}",
    ]
    + ["DATASETS.REGISTER", "[['hostile', '{path}', '.']]", "DATASETS.TRAIN", "('hostile',)"],
    "evaluation": ["evaluate", "{results}", "--ground-truth", "{path}"],
    "report": ["report", "{run}", "--ground-truth", "{path}", "--images", ".", "--read-outside"],
}


def limit_memory() -> None:
    # Not of addresses, of which the report's figures reserve more than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (1 << 32, 1 << 32))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classes", "name"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_bounded_in_time_memory_and_output(
    command: str, kind: str, tmp_path: Path
) -> None:
    names = map(str, range(10**6)) if kind == "classes" else ["x" * 50_000_000]
    path = write_json(tmp_path / "a.json", names)
    (tmp_path / "results.json").write_text("[]")
    places = {"path": path, "out": tmp_path / "out", "results": tmp_path / "results.json"}
    if command == "report":
        good = write_json(tmp_path / "good.json", ["cat"])
        evaluate = ["evaluate", str(places["results"]), "--ground-truth", str(good), "--output"]
        places["run"] = tmp_path / "run"
        subprocess.run(
            [sys.executable, "-m", "balms_seg", *evaluate, str(places["run"])], check=True
        )
    words = [word.format(**places) for word in COMMANDS[command]]
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "balms_seg", *words],
        capture_output=True,
        text=True,
        preexec_fn=limit_memory,
        check=False,
    )
    assert time.monotonic() - start < 120
    assert done.returncode != 0
    assert f"Expected {'at most' if kind == 'classes' else 'names of at most'}" in done.stderr
    assert len(done.stdout) + len(done.stderr) < 20_000
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*")) < 1 << 20
