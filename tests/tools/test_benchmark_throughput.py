"""What the benchmark of throughput leaves where memory is too small, or it is ended early."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "benchmarks"))

import benchmark  # noqa: E402
import benchmark_throughput  # noqa: E402


def test_a_scheme_that_does_not_fit_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(scheme: str, folder: Path, arguments: Namespace) -> tuple[float, int]:
        if scheme == "softmax":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return (0.5 if scheme == benchmark_throughput.REFERENCE else 1.0), 100

    for name in ("write_lvis_like", "write_photographs"):
        monkeypatch.setattr(benchmark_throughput, name, lambda *_, **__: None)
    monkeypatch.setattr(benchmark_throughput, "_measure", measure)
    arguments = Namespace(batch=2, precision="float16", photograph=[4, 6])
    rows = {row["scheme"]: row for row in benchmark_throughput.benchmark_throughput(arguments)}
    assert rows.keys() == benchmark_throughput.SCHEMES.keys()
    assert [name for name, row in rows.items() if not row["fits"]] == ["softmax"]
    assert set(list(rows["softmax"].values())[4:]) == {None}
    assert rows["decoupled"]["images_per_second"] == 2.0
    assert rows["decoupled"]["ratio to detectron2's head"] == 2.0


def test_rows_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(arguments: Namespace) -> Iterator[dict[str, Any]]:
        """One row, then the end."""
        yield {"loss": "first"}
        raise KeyboardInterrupt

    monkeypatch.setitem(benchmark.BENCHMARKS, "loss", (measure, lambda parser: None))
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "loss", "--output", str(tmp_path / "r.json")])
    with pytest.raises(KeyboardInterrupt):
        benchmark.main()
    assert json.loads((tmp_path / "r.json").read_text())["rows"] == [{"loss": "first"}]
