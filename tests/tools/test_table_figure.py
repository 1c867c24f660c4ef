"""The figure of tables' paired differences."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "benchmarks"))

import table_figure  # noqa: E402


def test_a_figure_has_a_pair_a_line_and_skips_those_of_one_seed(tmp_path: Path) -> None:
    gap = {"mean": 1.0, "standard_error": 0.5, "interval": [-0.5, 2.5]}
    pairs = [{"left": "a", "right": "b", "top1": gap}, {"left": "c", "right": "b"}]
    table = {"title": "Made up", "paired_differences": pairs}
    assert table_figure.differences(table, "top1") == [("a - b", 1.0, -0.5, 2.5)]
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    table_figure.main([str(path), str(path), "--output", str(tmp_path / "figure.png")])
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.width > 500
