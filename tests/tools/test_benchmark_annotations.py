"""The made-up LVIS and what reading it is measured by."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "benchmarks"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    pytest.importorskip("detectron2")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(TOOLS))
    import benchmark_annotations

    yield benchmark_annotations
    for name in ("benchmark_annotations", "make_lvis_like"):
        sys.modules.pop(name, None)


def test_the_same_seed_makes_the_same_set(tool: ModuleType, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.json" for number in range(3)]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        numbers = tool.write_lvis_like(path, scale=0.0005, seed=seed)
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again
    assert first != other
    content = json.loads(other)
    assert {name: len(content[name]) for name in numbers} == numbers
    frequencies = [category["frequency"] for category in content["categories"]]
    assert [frequencies.count(letter) for letter in "rcf"] == [337, 461, 405]


def test_dicts_equal_detectron2s(tool: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("lvis")
    path = tmp_path / "set.json"
    numbers = tool.write_lvis_like(path, scale=0.0005)
    assert tool.check_equal(str(path)) == numbers["images"]


def test_a_difference_would_be_seen(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lvis")
    path = tmp_path / "set.json"
    tool.write_lvis_like(path, scale=0.0005)
    reader = tool.our_loader(str(path))

    def moved() -> list[dict]:
        dicts = list(reader())
        next(d for d in dicts if d["annotations"])["annotations"][0]["bbox"][0] += 0.01
        return dicts

    monkeypatch.setattr(tool, "our_loader", lambda _: moved)
    with pytest.raises(AssertionError):
        tool.check_equal(str(path))
