"""make docs: a page for each module, names that come lazily included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[1] / "tools" / "make_docs.py"


@pytest.mark.slow
def test_every_public_module_has_a_page(tmp_path: Path) -> None:
    pytest.importorskip("pdoc")
    job = subprocess.run(
        [sys.executable, str(TOOL), "--output", str(tmp_path)], capture_output=True, text=True
    )
    assert job.returncode == 0, job.stderr
    assert not job.stderr, job.stderr
    for name in ("losses", "methods", "data/loading/train_loader", "commands/train"):
        assert (tmp_path / "balms_seg" / f"{name}.html").is_file()
    assert not (tmp_path / "balms_seg" / "losses" / "_checks.html").exists()
    losses = (tmp_path / "balms_seg" / "losses.html").read_text()
    assert "Cross-entropy on logits shifted by the training log-counts." in losses
    package = (tmp_path / "balms_seg.html").read_text()
    assert "Stop on settings that contradict each other" in package
