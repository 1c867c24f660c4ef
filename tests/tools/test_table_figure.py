"""The figure of tables' paired differences."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
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


def test_differences_of_some_rows_can_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gap = {"mean": 1.0, "standard_error": 0.5, "interval": [-0.5, 2.5]}
    pairs = [{"left": left, "right": "b", "top1": gap} for left in "ac"]
    path, drawn = tmp_path / "table.json", []
    path.write_text(json.dumps({"title": "Made up", "paired_differences": pairs}))
    monkeypatch.setattr(
        table_figure,
        "draw",
        lambda tables, column, _: drawn.extend(table_figure.differences(tables[0], column)),
    )
    table_figure.main([str(path), "--without", "c", "--output", str(tmp_path / "figure.png")])
    assert [name for name, *_ in drawn] == ["a - b"]
    with pytest.raises(SystemExit):
        table_figure.main([str(path), "--without", "d", "--output", str(tmp_path / "figure.png")])


def test_rows_are_bars_with_the_interval_of_their_mean(tmp_path: Path) -> None:
    columns = [
        f"{task}/{name}" for task in ("segm", "bbox") for name in ("AP", "APr", "APc", "APf")
    ]
    runs = [{"row": "a", "seed": seed, **dict.fromkeys(columns, 50.0 + seed)} for seed in (0, 2)]
    table = {"title": "Made up", "runs": runs}
    rows = table_figure.bars(table, {"a": "A"}, "segm")["data"]["values"]
    assert [row["place"] for row in rows] == ["all classes", "rare", "common", "frequent"]
    assert rows[0]["text"] == "51.0"
    assert rows[0]["high"] - rows[0]["mean"] == pytest.approx(12.706, abs=1e-3)  # t of 1, twice 0.5
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    table_figure.main([str(path), "--rows", "a", "--output", str(tmp_path / "figure.png")])
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.width > 500
