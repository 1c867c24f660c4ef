"""Every promise of docs/reliability.md links to a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"


def test_every_promise_links_to_a_test() -> None:
    text = PAGE.read_text(encoding="utf-8")
    links = re.findall(r"\[(test_\w+)\]\(([^)]+)\)", text)
    assert len(links) > 30
    for name, path in links:
        source = (PAGE.parent / path).read_text(encoding="utf-8")
        assert f"def {name}(" in source, f"{name} is not in {path}"
    rows = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    promises = [row for row in rows if "by this test" not in row]
    assert [row for row in promises if "[test_" not in row] == []
