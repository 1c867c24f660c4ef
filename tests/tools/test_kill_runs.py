"""The short form of tools/benchmarks/kill_runs.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "kill_runs.py"


@pytest.mark.slow
def test_killed_runs_end_with_the_weights_of_one_left_alone(tmp_path: Path) -> None:
    """Of every stage, with data workers, in two processes."""
    output = tmp_path / "kills.json"
    command = [sys.executable, str(TOOL), "--kills=1", "--workers=2", "--processes=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, f"--output={output}"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(output.read_text())
    assert set(record["scenarios"]) == {
        f"{stage}/2/2" for stage in ("features", "reweighter", "sampler", "images")
    }
    assert all(kills >= 1 for kills, _, _ in record["scenarios"].values())
    assert record["totals"][2] == 0
