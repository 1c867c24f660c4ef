"""make demo does not pile up what it can make again, and removes nothing else."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from balms_seg.engine.output_folder import prepare_output_folder

TOOL = Path(__file__).resolve().parents[2] / "tools" / "run_demo.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_demo", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train(output: Path, content: str) -> None:
    """What a run with --overwrite does to its folder."""
    prepare_output_folder(output, resume=False, overwrite=True)
    (output / "inference").mkdir(parents=True)
    (output / "model_final.pth").write_text(content)


def demo(tool: ModuleType, output: Path) -> None:
    with tool.earlier_demo_removed(output):
        train(output, "demo")


def models(output: Path) -> set[str]:
    return {path.read_text() for path in output.rglob("model_final.pth")}


def test_a_demo_takes_the_place_of_an_earlier_one(tool: ModuleType, tmp_path: Path) -> None:
    for _ in range(3):
        demo(tool, tmp_path)
    assert not list(tmp_path.glob("earlier_run_*"))
    assert models(tmp_path) == {"demo"}


def test_a_run_of_ones_own_in_its_folder_stays(tool: ModuleType, tmp_path: Path) -> None:
    demo(tool, tmp_path)
    train(tmp_path, "own")
    (tmp_path / "notes.txt").touch()
    for _ in range(2):
        demo(tool, tmp_path)
    assert models(tmp_path) == {"own", "demo"}
    assert (tmp_path / "notes.txt").is_file()
