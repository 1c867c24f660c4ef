"""The numbers of the methods' page are those of the published table."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
AP = ("segm/AP", "segm/APr", "segm/APc", "segm/APf")


def test_each_method_has_the_toy_numbers_of_the_table() -> None:
    runs = json.loads((ROOT / "docs/results/toy_zoo.json").read_text())["runs"]
    measured: dict[str, list] = {}
    for run in runs:
        measured.setdefault(run["row"].partition(",")[0], []).append([run[key] for key in AP])
    expected = {
        name: " / ".join(f"{value:.1f}" for value in np.mean(seeds, axis=0))
        + (f" ({len(seeds)} seeds)" if len(seeds) > 1 else "")
        for name, seeds in measured.items()
    }
    page = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    lines = re.findall(r"\*On glyphs: (.*?)\.\*", page, flags=re.DOTALL)
    entries = [entry for line in lines for entry in " ".join(line.split()).split("; ")]
    assert {entry.split("`")[1]: entry.split("` ")[1] for entry in entries} == expected
