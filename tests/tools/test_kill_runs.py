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
    output = tmp_path / "kills.json"
    command = [sys.executable, str(TOOL), "--kills", "6", "--output", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    kills, sequences, different = json.loads(output.read_text())["totals"]
    assert kills >= 6
    assert sequences >= 1
    assert different == 0
