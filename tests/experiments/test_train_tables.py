"""Tables: which runs are trained and kept, and what is written."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from balms_seg.commands import command_line
from balms_seg.evaluation import write_results
from balms_seg.experiments import machine, table_data, train_tables
from balms_seg.experiments.cost import Cost, write_cost
from balms_seg.experiments.processes import Process, start_process
from balms_seg.stop_signals import RESUME_EXIT_CODE

TABLES = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "tables"
CPU = TABLES / "cifar_cpu.yaml"


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
    write_cost(folder, Cost(2.0, 3.0))
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
        # seeds shift all rows alike; the gap of balanced ones grows by 1 a seed
        seed, is_balanced = int(settings["SEED"]), "-balanced" in folder.name
        write_run(folder, 60.0 + 5 * seed + (10 + seed) * is_balanced)
        return start_process(["true"], *how)

    monkeypatch.setattr(train_tables, "start_process", train)
    return asked


def compare(tmp_path: Path, *more: str, table: Path = CPU) -> None:
    output = ["--output", str(tmp_path / "runs")]
    command_line.main(["compare-methods", "--table", str(table), "--jobs", "2", *output, *more])


def test_a_table_has_means_paired_differences_costs_and_its_subset(
    tmp_path: Path, trained: list
) -> None:
    compare(tmp_path)
    content = json.loads((tmp_path / "runs" / "cifar_cpu.json").read_text())
    softmax, balanced, decoupled = content["rows"][:3]
    assert (softmax["row"], softmax["seeds"]) == ("softmax", 3)
    assert softmax["top1"] == {"mean": 65, "standard_deviation": 5, "min": 60, "max": 70}
    assert balanced["top1"]["mean"] == 76
    pair = content["paired_differences"][0]
    assert (pair["left"], pair["right"], pair["seeds"]) == (balanced["row"], "softmax", 3)
    assert pair["top1"]["mean"] == pytest.approx(11)
    assert pair["top1"]["standard_error"] == pytest.approx(3**-0.5)
    assert content["subset"] == {"rho": 100, "kind": "exponential", "seed": 0}
    assert content["command"] == f"balms-seg compare-methods --table {CPU}"
    assert "top1-few" not in softmax  # no class of it has so few images
    costs = [row["processor_seconds"]["mean"] for row in (softmax, decoupled)]
    assert costs[0] > 0
    assert costs[1] > costs[0]  # of both stages
    text = (tmp_path / "runs" / "cifar_cpu.md").read_text()
    assert "| 65.0 ± 5.0 (60.0 to 70.0) |" in text
    assert "| +11.0 ± 0.6 (+8.5 to +13.5) |" in text  # 4.303 errors of two degrees of freedom
    assert "| 77.4 |" in text
    assert (tmp_path / "runs" / "cifar_cpu.csv").read_text().count("\n") == 1 + 15


def test_where_the_cost_of_a_stage_is_unknown_that_of_the_rest_is_not_taken_for_it(
    tmp_path: Path, trained: list
) -> None:
    compare(tmp_path, "--methods", "softmax")
    for path in (tmp_path / "runs").glob("*softmax_rho100_seed0/cost.json"):
        path.unlink()
    compare(tmp_path)
    runs = json.loads((tmp_path / "runs" / "cifar_cpu.json").read_text())["runs"]
    second = [run for run in runs if run["row"] == "Balanced Softmax, decoupled"]
    assert ["processor_seconds" in run for run in second] == [False, True, True]
    assert ["time_seconds" in run for run in second] == [False, True, True]


def test_a_stage_is_trained_once_a_seed_and_before_what_starts_from_it(
    tmp_path: Path, trained: list
) -> None:
    compare(tmp_path)
    names = [name for name, _ in trained]
    assert len(names) == len(set(names)) == 15
    for name, stage_one in trained:
        expected = f"cifar10_lt_cpu-softmax_rho100_seed{name[-1]}"
        second = any(part in name for part in ("-classifier", "-balms"))
        assert stage_one == (expected if second else None)


def test_published_runs_are_kept_and_only_missing_ones_are_trained(
    tmp_path: Path, trained: list
) -> None:
    results = ["--results", str(tmp_path / "results")]
    compare(tmp_path, "--seeds", "2", *results)
    assert {name[-1] for name, _ in trained} == {"0", "1"}
    trained.clear()
    path = tmp_path / "results" / "cifar_cpu.json"
    here = json.loads(path.read_text())["hardware"]
    path.write_text(json.dumps({**json.loads(path.read_text()), "hardware": "an abacus"}))
    compare(tmp_path / "another", "--seeds", "2", *results)
    assert json.loads(path.read_text())["hardware"] == "an abacus"
    compare(tmp_path / "elsewhere", *results)
    assert {name[-1] for name, _ in trained} == {"2"}
    content = json.loads(path.read_text())
    assert {row["seeds"] for row in content["rows"]} == {3}
    assert content["hardware"] == f"an abacus; {here}"
    others = [{**run, "row": "of an earlier table"} for run in content["runs"]]
    path.write_text(json.dumps({**content, "runs": others}))
    compare(tmp_path / "renamed", *results)
    assert json.loads(path.read_text())["hardware"] == here

    path.write_text(json.dumps({**content, "iterations": 9}))  # of another schedule
    trained.clear()
    compare(tmp_path / "elsewhere", "--seeds", "1", *results)
    assert len(trained) == 5


def test_some_rows_are_trained_in_short(tmp_path: Path, trained: list) -> None:
    short = ("SOLVER.WARMUP_ITERS", "0", "SOLVER.MAX_ITER", "2")
    some = ("--import", "math", "--seeds", "1", "--methods", "softmax", "BALMS", "--num-gpus", "0")
    compare(tmp_path, *some, *short)
    first, second = (
        f"cifar10_lt_cpu-{name}_rho100_WARMUP_ITERS-0_MAX_ITER-2_seed0"
        for name in ("softmax", "balms")
    )
    assert trained == [(first, None), (second, first)]
    content = json.loads((tmp_path / "runs" / "cifar_cpu.json").read_text())
    assert [run["row"] for run in content["runs"]] == ["softmax", "BALMS"]
    assert content["command"] == (
        f"balms-seg compare-methods --import math --table {CPU} SOLVER.WARMUP_ITERS 0 "
        "SOLVER.MAX_ITER 2"
    )


def test_what_follows_one_seed_is_told(
    tmp_path: Path, trained: list, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(tmp_path, "--seeds", "1")
    names = ("softmax", "balanced_softmax")
    softmax, balanced = (
        tmp_path / "runs" / f"cifar10_lt_cpu-{name}_rho100_seed0" for name in names
    )
    assert capsys.readouterr().out.endswith(
        "A difference of one seed may be chance. Next:\n"
        f"  balms-seg compare {softmax} {balanced}\n      chance in the images\n"
        "  the same command with --seeds 3\n      chance in the seed; what is finished is kept\n"
    )
    assert softmax.is_dir()
    assert balanced.is_dir()
    for more in (["--seeds", "1", "--methods", "BALMS"], ["--seeds", "3"]):
        compare(tmp_path, *more)
        assert "Next:" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--results", "docs/results", "SOLVER.MAX_ITER", "2"], "no KEY VALUE with --results"),
        (["--methods", "balm"], "Expected rows out of softmax; .*, but got balm"),
        (["--minutes", "1", "SOLVER.MAX_ITERS", "2"], "softmax: .*MAX_ITERS"),
    ],
)
def test_what_would_spoil_a_table_is_refused(
    words: list[str], message: str, tmp_path: Path, trained: list
) -> None:
    with pytest.raises(SystemExit, match=message):
        compare(tmp_path, *words)
    assert trained == []


def test_a_run_that_fails_is_said_after_the_tables(
    tmp_path: Path, trained: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = train_tables.start_process

    def fail_at_balms(command: list[str], *how: Any) -> Process:
        is_balms = "/balms_rho100.yaml" in str(command)  # the folder of Python may be balms_seg's
        return start_process(["false"], *how) if is_balms else train(command, *how)

    monkeypatch.setattr(train_tables, "start_process", fail_at_balms)
    with pytest.raises(SystemExit, match="1 of 5 runs failed: cifar10_lt_cpu-balms_rho100_seed0"):
        compare(tmp_path, "--seeds", "1")
    assert (tmp_path / "runs" / "cifar_cpu.json").is_file()


def test_a_table_that_was_ended_in_time_is_gone_on_with(tmp_path: Path, trained: list) -> None:
    with pytest.raises(SystemExit) as ended:
        compare(tmp_path, "--minutes", "0")
    assert (ended.value.code, trained) == (RESUME_EXIT_CODE, [])
    compare(tmp_path)
    assert len(trained) == 15


def test_collages_are_made_of_photographs_where_a_table_asks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_data, "make_glyph_dataset", lambda *_: pytest.fail("no glyphs"))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(SystemExit, match=r"CIFAR-10 is not in .*DETECTRON2_DATASETS"):
        compare(tmp_path, table=TABLES / "toy_collages.yaml")


def test_a_table_for_gpus_takes_all_in_turn_and_says_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(machine, "visible_gpus", list)
    with pytest.raises(SystemExit, match=r"Expected a GPU, but there are 0; --num-gpus 0 takes"):
        compare(tmp_path, table=TABLES / "cifar_rho200.yaml")
    monkeypatch.setattr(machine, "visible_gpus", lambda: ["2", "5"])
    monkeypatch.setattr(
        train_tables, "train_all", lambda *_, places, **__: given.extend(places) or []
    )
    with pytest.raises(SystemExit):
        compare(tmp_path, "--jobs", "3", table=TABLES / "cifar_rho200.yaml")
    assert [place["CUDA_VISIBLE_DEVICES"] for place in given] == ["2", "5", "2"]


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
    monkeypatch.setattr(machine, "num_cores", lambda: cores)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=f"{free}\n"))
    gpus = [str(number) for number in range(len(free.split()))]
    assert machine.runs_side_by_side(gpus, 4096) == expected
    assert machine.runs_side_by_side(gpus) == len(gpus)
    assert machine.runs_side_by_side([], 4096) == cores
