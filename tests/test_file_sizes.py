"""A file holds one idea: past these lengths there is a second one to look for."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = {"balms_seg": 300, "tools": 300, "datasets": 300, "tests": 500}


@pytest.mark.parametrize("folder", MOST_LINES)
def test_no_file_is_too_long(folder: str) -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES[folder]
    }
    assert not long, f"more than {MOST_LINES[folder]} lines"
