"""docs/lvis.md says of each configuration what the header of its file says."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# As the headers have it: all four numbers of masks or AP alone, and boxes.
PUBLISHED = re.compile(
    r"Published, not run here: (?:mask AP )?([\d.]+)(?:/([\d.]+)/([\d.]+)/([\d.]+))?"
    r"(?:, box AP ([\d.]+))?"
)
SOURCE = re.compile(r"[^()]*\(([^)]*?table \d|[^,)]*)")


def test_the_published_numbers_are_those_of_the_configurations() -> None:
    expected = {}
    for version in ("lvis_v0.5", "lvis_v1"):
        for path in sorted((ROOT / "configs" / version).glob("*.yaml")):
            header = [line for line in path.read_text().splitlines() if line.startswith("#")]
            found = PUBLISHED.search(" ".join(line.lstrip("# ") for line in header))
            if found:
                text = " ".join(header)
                is_same = "Differs from" not in text
                values = [value or "n/a" for value in found.groups()]
                source = SOURCE.match(" ".join(line.lstrip("# ") for line in header), found.end())
                assert source, path
                told = ["yes" if is_same else "no", source[1]]
                expected[f"{version}/{path.stem}"] = [*values, *told]
    page = (ROOT / "docs" / "lvis.md").read_text()
    rows = re.findall(r"^\| `(lvis_\S+)` \| (.*) \|$", page, re.MULTILINE)
    assert len(expected) > 10
    assert {name: values.split(" | ") for name, values in rows} == expected
