"""The configurations of the CIFAR-LT tables are what their table says."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("make_cifar_configs")


def test_the_files_are_what_the_table_writes(tool: ModuleType) -> None:
    files = tool.all_files()
    assert len(files) == 120
    differing = [str(path) for path, text in files.items() if path.read_text() != text]
    assert not differing, "run tools/make_cifar_configs.py"


def test_every_other_file_is_written_by_hand(tool: ModuleType) -> None:
    names = {folder.name for folder in tool.FOLDERS}
    found = {path for name in names for path in (tool.CONFIGS / name).glob("*_rho*.yaml")}
    by_hand = {path for path in found if "make_cifar_configs" not in path.read_text()}
    assert found - set(tool.all_files()) == by_hand
    stems = {path.stem.rpartition("_")[0] for path in by_hand}
    assert stems == {"feature_balanced", "strong", "strong_width4"}
