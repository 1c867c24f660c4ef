"""The tables of CIFAR-LT: which runs they take, in what order, and what is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from balms_seg.engine import load_config
from balms_seg.evaluation import write_results
from balms_seg.experiments.processes import Process, start_process
from balms_seg.model_zoo import get_config_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "benchmarks"))

import run_cifar_table as tool  # noqa: E402


def write_run(folder: Path, top1: float) -> None:
    metrics = {"top1": top1, "top1-many": top1 + 5, "top1-medium": top1 - 20}
    write_results(
        folder / "results.json",
        metrics={"cifar10_test": {"classification": {**metrics, "top1-few": None, "ece": 7.0}}},
        commit="c0ffee",
        time_seconds=1.0,
        iteration=1000,
        versions={},
    )
    (folder / "model_final.pth").touch()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Trainings that were asked for, as (folder, stage one); each leaves made-up results."""
    asked: list[tuple[str, str | None]] = []

    def train(command: list[str], *how: Any) -> Process:
        words = command[command.index("--resume") + 1 :]
        settings = dict(zip(words[::2], words[1::2], strict=True))
        folder = Path(settings["OUTPUT_DIR"])
        weights = settings.get("MODEL.WEIGHTS")
        assert weights is None or Path(weights).is_file()
        asked.append((folder.name, weights and Path(weights).parent.name))
        write_run(folder, 60.0 + int(settings["SEED"]) + 10 * ("balanced" in folder.name))
        return start_process(["true"], *how)

    monkeypatch.setattr(tool, "start_process", train)
    return asked


def arguments(tmp_path: Path, *more: str) -> list[str]:
    folders = ["--output", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    return ["--cpu", "--table", "cpu", "--jobs", "2", *folders, *more]


def test_a_table_has_means_paired_differences_and_its_subset(tmp_path: Path, trained: list) -> None:
    tool.main(arguments(tmp_path))
    content = json.loads((tmp_path / "results" / "cifar_cpu.json").read_text())
    softmax, balanced = content["rows"][:2]
    assert (softmax["row"], softmax["seeds"]) == ("softmax", 3)
    assert softmax["top1"] == {"mean": 61, "standard_deviation": 1, "min": 60, "max": 62}
    assert balanced["top1"]["mean"] == 71
    pair = content["paired_differences"][0]
    assert pair["top1"] == {"mean": 10, "standard_error": 0, "interval": [10, 10]}
    assert content["subset"] == {"rho": 100, "kind": "exponential", "seed": 0}
    assert "top1-few" not in softmax  # no class of it has so few images
    text = (tmp_path / "results" / "cifar_cpu.md").read_text()
    assert "| 61.0 ± 1.0 (60.0 to 62.0) |" in text
    assert "| 77.4 |" in text
    assert (tmp_path / "results" / "cifar_cpu.csv").read_text().count("\n") == 1 + 15


def test_stage_one_is_trained_once_a_seed_and_is_the_row_of_softmax(
    tmp_path: Path, trained: list
) -> None:
    tool.main(arguments(tmp_path))
    names = [name for name, _ in trained]
    assert len(names) == len(set(names)) == 15
    for name, stage_one in trained:
        seed = name[-1]
        expected = f"cifar10_lt_cpu-softmax_rho100_seed{seed}"
        second = any(part in name for part in ("-classifier", "-balms"))
        assert stage_one == (expected if second else None)


def test_published_runs_are_kept_and_only_missing_ones_are_trained(
    tmp_path: Path, trained: list
) -> None:
    tool.main(arguments(tmp_path, "--seeds", "2"))
    assert {name[-1] for name, _ in trained} == {"0", "1"}
    trained.clear()
    other = ["--output", str(tmp_path / "elsewhere")]
    tool.main([*arguments(tmp_path), *other])
    assert {name[-1] for name, _ in trained} == {"2"}
    content = json.loads((tmp_path / "results" / "cifar_cpu.json").read_text())
    assert {row["seeds"] for row in content["rows"]} == {3}


def test_shortened_runs_have_folders_and_tables_of_their_own(tmp_path: Path, trained: list) -> None:
    tool.main(
        arguments(tmp_path, "--seeds", "1", "--rows", "softmax", "BALMS", "--iterations", "2")
    )
    first, second = (
        f"cifar10_lt_cpu-{name}_rho100_WARMUP_ITERS-0_MAX_ITER-2_seed0"
        for name in ("softmax", "balms")
    )
    assert trained == [(first, None), (second, first)]
    content = json.loads((tmp_path / "results" / "cifar_cpu.json").read_text())
    assert [run["row"] for run in content["runs"]] == ["softmax", "BALMS"]
    for wrong in (["--cpu", "--iterations", "2"], arguments(tmp_path, "--rows", "balm")):
        with pytest.raises(SystemExit):
            tool.main(wrong)


def test_a_run_that_fails_is_said_after_the_tables(
    tmp_path: Path, trained: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = tool.start_process

    def fail_at_balms(command: list[str], *how: Any) -> Process:
        is_balms = "/balms_rho100.yaml" in str(command)  # the folder of Python may be balms_seg's
        return start_process(["false"], *how) if is_balms else train(command, *how)

    monkeypatch.setattr(tool, "start_process", fail_at_balms)
    with pytest.raises(SystemExit, match="failed: cifar10_lt_cpu-balms_rho100_seed0"):
        tool.main(arguments(tmp_path, "--seeds", "1"))
    assert (tmp_path / "results" / "cifar_cpu.json").is_file()


def test_tables_of_the_other_device_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        tool.main([*arguments(tmp_path), "--table", "rho200"])


@pytest.mark.parametrize("name", tool.TABLES)
def test_every_run_has_a_configuration_and_a_folder_of_its_own(name: str) -> None:
    table = tool.TABLES[name]
    runs = table.runs()
    assert len({run.name for run in runs}) == len(runs) == table.seeds * len(table.rows)
    assert {row for pair in table.pairs for row in pair} <= set(table.rows)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    for run in runs[: len(table.rows)]:
        cfg = load_config(get_config_file(f"classification/{run.config}"), run.overrides)
        assert bool(cfg.MODEL.WEIGHTS) == (run.after is not None)
        if run.after:
            assert f"classification/{run.after.config}" == cfg.MODEL.STAGE_ONE_CONFIG


@pytest.mark.parametrize(
    ("cores", "free", "expected"),
    [
        (16, "140000", 16),
        (16, "9000", 2),
        (16, "9000\n13000", 4),
        (1, "9000\n13000", 2),
        (16, "900", 1),
    ],
)
def test_as_many_runs_as_cores_and_memory_hold_and_one_on_each_gpu(
    cores: int, free: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "num_cores", lambda: cores)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=f"{free}\n"))
    gpus = [str(number) for number in range(len(free.split()))]
    assert tool.runs_side_by_side(gpus) == expected
    assert tool.runs_side_by_side([]) == cores


def test_runs_take_all_gpus_in_turn(
    tmp_path: Path, trained: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(tool, "visible_gpus", lambda: ["2", "5"])
    monkeypatch.setattr(tool, "train_all", lambda *_, places, **__: given.extend(places))
    monkeypatch.setattr(tool, "collect", lambda *_: None)
    tool.main(["--table", "rho200", "--jobs", "3", "--output", str(tmp_path)])
    assert [place["CUDA_VISIBLE_DEVICES"] for place in given] == ["2", "5", "2"]
