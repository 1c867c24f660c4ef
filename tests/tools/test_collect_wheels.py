"""What is collected for a machine without a network, and for which Python and torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

LoadTool = Callable[[str], ModuleType]


def test_the_wheels_are_those_of_the_python_and_the_torch_asked_for(
    load_tool: LoadTool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = load_tool("collect_wheels")
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(tool, "pip", lambda *words: calls.append(words))
    (tmp_path / tool.WHEEL_NAME).touch()  # made before
    arguments = [str(tmp_path), "--python", "3.12", "--torch", "2.11.0", "--with-torch"]
    tool.main(arguments)
    *built, download = calls
    assert [words[-1].partition("==")[0] for words in built] == [*tool.SOURCES_ALONE]
    assert all("==" in words[-1] for words in built)
    assert download[download.index("--python-version") + 1] == "3.12"
    needed = {"pycocotools", "lvis", "fvcore", "torch", "pytest"}
    assert needed <= {word.partition(">")[0] for word in download}
    pins = (tmp_path / "constraints.txt").read_text().splitlines()
    assert [pin for pin in pins if pin.startswith("torch")] == ["torch==2.11.0"]
    assert "detectron2" in (tmp_path / "requirements.txt").read_text().splitlines()


def test_torch_stays_as_pinned_and_at_home_unless_asked_for(
    load_tool: LoadTool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = load_tool("collect_wheels")
    assert tool.constraints("# why\ntorch==3.0\nnumpy==2.4\n\n", None) == [
        "torch==3.0",
        "numpy==2.4",
    ]
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(tool, "pip", lambda *words: calls.append(words))
    (tmp_path / tool.WHEEL_NAME).touch()
    tool.main([str(tmp_path)])
    assert "torch" not in calls[-1]


def test_what_pip_cannot_get_ends_it(load_tool: LoadTool) -> None:
    with pytest.raises(SystemExit, match="pip nonsense failed"):
        load_tool("collect_wheels").pip("nonsense")
