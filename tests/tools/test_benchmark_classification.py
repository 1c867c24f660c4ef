"""The benchmark of image classification runs both sides and says what loading takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_it_measures_both_sides(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    command = [sys.executable, "tools/benchmarks/benchmark.py", "classification", "--batch", "8"]
    command += ["--repetitions", "1", "--output", str(output)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    rows = json.loads(output.read_text())["rows"]
    assert [row["augmentation"] for row in rows] == [
        "crop, flip",
        "crop, flip, AutoAugment, Cutout",
    ]
    for row in rows:
        assert row["ours_images_per_s"] > 0
        assert 0 < row["ours_data_share"] < 1
        assert 0 < row["reference_data_share"] < 1
