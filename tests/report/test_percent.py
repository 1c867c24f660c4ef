"""Percentages keep a second digit where the first one would say nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from balms_seg.report.charts import group_bars
from balms_seg.report.percent import percent_text


@pytest.mark.parametrize(
    ("percent", "shown"),
    [
        (33.152, "33.2"),
        (1.0, "1.0"),
        (0.999, "1.0"),
        (0.07, "0.07"),
        (-0.26, "-0.26"),
        (0.0, "0.0"),
    ],
)
def test_below_one_there_are_two_digits(percent: float, shown: str) -> None:
    assert percent_text(percent) == shown


@pytest.mark.parametrize(
    ("high", "scale"), [(0.3, {"domain": [0, 1]}), (1.2, {"zero": True})], ids=["low", "high"]
)
def test_bars_of_next_to_nothing_stay_short(high: float, scale: dict) -> None:
    runs = [SimpleNamespace(name="run", groups=("rare", "common", "frequent"))]
    row = {"run": "run", "group": "all", "AP": 0.07, "low": 0.0, "high": high}
    figure = group_bars(runs, [row], "AP", "AP (%)")
    assert [one["text"] for one in figure["data"]["values"]] == ["0.07"]
    assert figure["layer"][0]["encoding"]["x"]["scale"] == scale
