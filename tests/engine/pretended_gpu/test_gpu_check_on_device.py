"""What tools/gpu_check.py runs on a GPU, in small on the pretended one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[3] / "tools"
sys.path[:0] = [str(TOOLS), str(TOOLS / "benchmarks")]

import gpu_check  # noqa: E402
from gpu_check_parts import Part, list_parts  # noqa: E402
from gpu_check_place import Place  # noqa: E402

RUNNER = str(Path(__file__).with_name("on_pretended_gpu.py"))
PARTS = {"throughput_float16_2", "meta", "meta_sampler", "loss_kernels"}


@pytest.fixture
def place(device: str, guard: Path) -> Place:
    if device == "real":
        pytest.skip("gpu_check itself runs there")
    return Place("pretended", python=(sys.executable, RUNNER, str(guard)))


def run(place: Place, output: Path) -> dict[str, str]:
    """The outcome of each part."""
    gpu_check.main(["--minutes", "10", "--output", str(output)], place)
    records = [json.loads(path.read_text()) for path in output.glob("*.json")]
    return {record["part"]: record["outcome"] for record in records if "part" in record}


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Part], bool]], None]:
    """Leaves only some parts to be run."""

    def choose(is_chosen: Callable[[Part], bool]) -> None:
        def some(place: Place, output: Path, *, minutes: float) -> list[Part]:
            return [part for part in list_parts(place, output, minutes=minutes) if is_chosen(part)]

        monkeypatch.setattr(gpu_check, "list_parts", some)

    return choose


def test_benchmarks_of_one_gpu_run_through(place: Place, chosen: Callable, tmp_path: Path) -> None:
    chosen(lambda part: part.name in PARTS)
    assert run(place, tmp_path) == dict.fromkeys(PARTS, "done")
    rows = json.loads((tmp_path / "meta.json").read_text())["rows"]
    assert rows[0] == {"scheme": "BALMS, loader", "over": "decoupled", "image": [64, 64]}


def test_a_part_that_mixes_devices_fails(
    place: Place, chosen: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake = tmp_path / "mistake.py"
    mistake.write_text("import torch\ntorch.ones(2, device='cuda') + torch.ones(2)\n")
    monkeypatch.setattr("gpu_check_parts.BENCHMARK", str(mistake))
    chosen(lambda part: part.name == "loss_kernels")
    assert run(place, tmp_path) == {"loss_kernels": "failed (1), see loss_kernels.log"}
    assert "DeviceMixError" in (tmp_path / "loss_kernels.log").read_text()
