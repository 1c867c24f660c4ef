"""What tools/gpu_check.py runs on a GPU, in small on the pretended one."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import Tensor

TOOLS = Path(__file__).resolve().parents[3] / "tools"
sys.path[:0] = [str(TOOLS), str(TOOLS / "benchmarks")]

import benchmark  # noqa: E402
import gpu_check  # noqa: E402
from gpu_check_parts import BENCHMARK, list_parts  # noqa: E402
from gpu_check_place import Place  # noqa: E402

RUNNER = str(Path(__file__).with_name("on_pretended_gpu.py"))
BENCHMARKS = ("throughput_float16_2", "meta", "meta_sampler", "loss_kernels")


@pytest.fixture
def place(device: str, request: pytest.FixtureRequest) -> Place:
    if device == "real":
        pytest.skip("gpu_check itself runs there")
    guard = str(request.getfixturevalue("guard"))
    return Place("pretended", python=(sys.executable, RUNNER, guard))


@pytest.fixture
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks run without the seconds that a process of their own takes to start."""

    def call(command: Sequence[str], log: Path, limit_seconds: float) -> int:
        log.touch()
        monkeypatch.setattr(sys, "argv", [*command[command.index(BENCHMARK) :]])
        benchmark.main()
        return 0

    monkeypatch.setattr(gpu_check, "_run_within", call)


def run(place: Place, output: Path, *names: str) -> dict[str, str]:
    """The outcome of each part; without names, of all."""

    def chosen(*args: object, **kwargs: object) -> list:
        parts = list_parts(*args, **kwargs)
        return [part for part in parts if not names or part.name in names]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_check, "list_parts", chosen)
        gpu_check.main(["--minutes", "60", "--output", str(output)], place)
    records = [json.loads(path.read_text()) for path in output.glob("*.json")]
    return {record["part"]: record["outcome"] for record in records}


@pytest.mark.usefixtures("_in_this_process")
@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_of_one_gpu_run_through(name: str, place: Place, tmp_path: Path) -> None:
    assert run(place, tmp_path, name) == {name: "done"}
    rows = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
    first = {
        "throughput_float16_2": {
            **{"scheme": "detectron2's head", "precision": "float16", "batch": 2}
        },
        "meta": {"scheme": "BALMS, loader", "over": "decoupled", "image": [64, 64]},
        "meta_sampler": {"estimator": "score"},
        "loss_kernels": {
            **{"loss": "balanced_softmax", "reference": "cross_entropy", "shape": [512, 9]}
        },
    }
    assert rows[0] == first[name]
    assert len(rows) == {"throughput_float16_2": 6, "meta": 4, "meta_sampler": 3}.get(name, 7)


@pytest.mark.slow
def test_all_of_it_runs_through_in_processes_of_its_own(place: Place, tmp_path: Path) -> None:
    outcomes = run(place, tmp_path)
    skipped = {name: text for name, text in outcomes.items() if text.startswith("skipped")}
    assert skipped.keys() == {"cifar_rho200", "ranks_1", "ranks_2"}
    assert {text for name, text in outcomes.items() if name not in skipped} == {"done"}
    assert {*BENCHMARKS, "tests", "throughput_float32_2", "throughput_bfloat16_2"} <= {*outcomes}


@pytest.mark.usefixtures("_in_this_process")
def test_a_benchmark_that_mixes_devices_is_seen(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = benchmark._loss_inputs

    def with_mistake(*args: object) -> tuple[Tensor, Tensor]:
        logits, targets = inputs(*args)
        return logits, targets.cpu()

    monkeypatch.setattr(benchmark, "_loss_inputs", with_mistake)
    with pytest.raises(RuntimeError, match="device"):
        run(place, tmp_path, "loss_kernels")
