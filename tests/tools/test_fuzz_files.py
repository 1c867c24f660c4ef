"""Damaged files end in a line or in the right AP, in every reader; so does what broke before."""

import copy
import importlib.util
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lvis")
NUM_MUTANTS = 10  # of each kind of file


@pytest.fixture(scope="module")
def fuzz_files() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "fuzz_files.py"
    spec = importlib.util.spec_from_file_location("fuzz_files", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_files"] = module
    path_before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path_before
    return module


@pytest.fixture(scope="module", params=[True, False], ids=["lvis", "coco"])
def fuzzer(
    request: pytest.FixtureRequest,
    fuzz_files: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    return fuzz_files.Fuzzer(tmp_path_factory.mktemp("fuzz"), with_lists=request.param)


@pytest.mark.parametrize("kind", ["annotations", "results"])
def test_no_damaged_file_ends_in_a_fault(kind: str, fuzz_files: ModuleType, fuzzer: Any) -> None:
    content = fuzzer.content if kind == "annotations" else fuzzer.detections
    stream = fuzz_files.mutants(kind, content, np.random.default_rng(0))
    faults = {}
    for number, mutant in enumerate(itertools.islice(stream, NUM_MUTANTS)):
        fault = fuzzer.check(mutant)
        if fault:
            faults[number] = fault
    assert faults == {}
    assert fuzzer.states[f"{kind}, evaluation: error"] > NUM_MUTANTS / 4
    assert fuzzer.states[f"{kind}, statistics: value"] > 0


def unreadable_text_in_a_key(text: str) -> bytes:
    return text.replace('"area"', '"no\x7ftes": 1, "area"', 1).encode().replace(b"\x7f", b"\xff")


FOUND: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a number among the annotations, and no number in a box": (
        "annotations",
        lambda c: [c["annotations"].insert(0, 3), c["annotations"][1].update(bbox=[float("nan")])],
    ),
    "annotations without an image": ("annotations", lambda c: c["images"].clear()),
    "a size that is no list": ("results", lambda d: d[3]["segmentation"].update(size=64)),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_broke_before_is_a_line(name: str, fuzz_files: ModuleType, fuzzer: Any) -> None:
    kind, change = FOUND[name]
    content = copy.deepcopy(fuzzer.content if kind == "annotations" else fuzzer.detections)
    change(content)
    before = fuzzer.states[f"{kind}, evaluation: error"]
    assert fuzzer.check(fuzz_files.Mutant(kind, json.dumps(content).encode(), content)) is None
    assert fuzzer.states[f"{kind}, evaluation: error"] == before + 1


def test_bytes_that_are_no_text_are_a_line(fuzz_files: ModuleType, fuzzer: Any) -> None:
    text = unreadable_text_in_a_key(json.dumps(fuzzer.content))
    before = fuzzer.states["annotations, evaluation: error"]
    assert fuzzer.check(fuzz_files.Mutant("annotations", text, None)) is None
    assert fuzzer.states["annotations, evaluation: error"] == before + 1


BIG_BYTES = 500_000
_ONE = '{"id":1,"image_id":1,"category_id":1,"bbox":[1,1,9,9],"segmentation":['
_FEWEST = '{"image_id":1,"category_id":1,"bbox":[1,1,9,9]}'
# What takes most memory of a json reader, for its size: begin, what is repeated, end.
BIG = {
    "objects without fields": ("", "{},", "{}"),
    "numbers": ("", "3,", "3"),
    "a mask of many polygons": (_ONE, "[1,1],", "[1,1]]}"),
    "a polygon of many points": (f"{_ONE}[", "1,1,", "1,1]]}"),
    "annotations with the fewest fields": ("", f"{_FEWEST},", _FEWEST),
}


@pytest.mark.parametrize("name", BIG)
def test_reading_stays_within_the_memory_that_is_stated(
    name: str, fuzz_files: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "big.json"
    begin, repeated, end = BIG[name]
    entries = f"{begin}{repeated * (BIG_BYTES // len(repeated))}{end}"
    images = '[{"id":1,"file_name":"1.png","height":64,"width":64}]'
    path.write_text(f'{{"images":{images},"categories":[{{"id":1}}],"annotations":[{entries}]}}')
    allowed = fuzz_files.MEMORY_OVER_FILES * path.stat().st_size + fuzz_files.BESIDES_BYTES // 4
    files = fuzz_files.Files(path, path, tmp_path)
    reader = {"statistics": lambda: fuzz_files.READERS["statistics"](files)}
    outcome = fuzz_files.in_own_process(reader, memory_bytes=allowed)["statistics"]
    assert outcome.state in ("value", "error"), outcome
    assert outcome.added_bytes > path.stat().st_size / 2  # that it was measured at all


def in_own_process(fuzz_files: ModuleType, work: Callable[[], Any], **limits: int) -> Any:
    limits = {"memory_bytes": fuzz_files.BESIDES_BYTES, **limits}
    return fuzz_files.in_own_process({"work": work}, **limits)["work"]


@pytest.mark.parametrize(
    ("work", "state"),
    [
        (lambda: {"bbox": 1.0}, "value"),
        (lambda: int("x"), "error"),
        (lambda: {}["x"], "traceback"),
        (lambda: bytearray(1 << 40), "memory"),
        (lambda: len(bytearray(1 << 29)), "memory"),  # pages of the parent may go meanwhile
        (lambda: __import__("os").kill(__import__("os").getpid(), 11), "signal"),
    ],
)
def test_each_end_of_a_reader_is_told_apart(
    work: Callable[[], Any], state: str, fuzz_files: ModuleType
) -> None:
    assert in_own_process(fuzz_files, work).state == state


def test_a_reader_that_does_not_end_is_told(fuzz_files: ModuleType) -> None:
    assert in_own_process(fuzz_files, lambda: sum(iter(int, 1)), seconds=1).state == "hang"


def test_a_wrong_ap_is_a_fault(fuzz_files: ModuleType, fuzzer: Any) -> None:
    found = copy.deepcopy(fuzzer.detections)
    found[0]["bbox"] = [0.0, 0.0, 5.0, 5.0]
    mutant = fuzz_files.Mutant("results", json.dumps(found).encode(), fuzzer.detections)
    fault = fuzzer.check(mutant)
    assert "evaluation: AP " in fault
    assert "boxes: AP " in fault
