import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from balms_seg.evaluation import read_results, write_results


def test_results_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "results.json"
    written = {
        "metrics": {"val": {"bbox": {"AP": 1 / 3, "APf": 0.0}}},
        "group_sizes": {"rare": {"classes": 3, "with_ground_truth": 2}},
        "config": "SEED: 1\n",
        "commit": "abc",
        "seed": 1,
        "versions": {"torch": "2.14.1"},
        "time_seconds": 12.5,
        "iteration": 500,
        "command": ["train_net.py"],
    }
    write_results(path, **written)
    assert read_results(path) == {"schema_version": 1, **written}


def test_nan_becomes_null_and_nan_again(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, metrics={"bbox": {"APr": float("nan"), "AP": np.float32(0.5)}})
    record = json.loads(path.read_text())
    assert record["metrics"] == {"bbox": {"APr": None, "AP": 0.5}}
    assert record["seed"] is None
    metrics = read_results(path)["metrics"]["bbox"]
    assert math.isnan(metrics["APr"])
    assert read_results(path)["seed"] is None


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        ({"AP": float("inf")}, ValueError, "results.metrics.AP is inf"),
        ({"AP": object()}, TypeError, "results.metrics.AP is a object"),
    ],
)
def test_value_without_a_place_in_json_keeps_the_old_file(
    metrics: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    write_results(path, metrics={"AP": 1.0})
    with pytest.raises(error, match=message):
        write_results(path, metrics=metrics)
    assert read_results(path)["metrics"] == {"AP": 1.0}


def test_interrupted_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.json"
    write_results(path, metrics={"AP": 1.0})

    def fail(source: str, target: str) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_results(path, metrics={"AP": 2.0})
    assert read_results(path)["metrics"] == {"AP": 1.0}
    assert os.listdir(tmp_path) == ["results.json"]


def test_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, metrics={"AP": 1.0})
    path.write_text(path.read_text()[:-30])
    with pytest.raises(ValueError, match="results.json.*cut short.*--eval-only"):
        read_results(path)


@pytest.mark.parametrize("version", [None, 2, "1"])
def test_other_version_is_an_error(version: Any, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"schema_version": version, "metrics": {}}))
    with pytest.raises(ValueError, match=f"schema_version 1 .* got {version!r}"):
        read_results(path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema_version": 1}'])
def test_other_json_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="object with 'metrics'"):
        read_results(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="results.json"):
        read_results(tmp_path / "results.json")
