"""What gpu_check runs, in which order, what it leaves, and what it does not run again."""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path[:0] = [str(TOOLS), str(TOOLS / "benchmarks")]

import gpu_check  # noqa: E402
import gpu_check_page  # noqa: E402
import gpu_check_parts  # noqa: E402
from gpu_check_parts import Part, list_parts  # noqa: E402
from gpu_check_place import Place  # noqa: E402

Run = Callable[..., int]
CPU, GPU = Place("cpu"), Place("gpu", num_devices=1)
WRITE = "import sys; open(sys.argv[1], 'a').write('x'); open(sys.argv[2], 'w').write(sys.argv[3])"


def part(folder: Path, name: str, script: str = WRITE, **more: object) -> Part:
    """A part whose command notes that it ran, and leaves one row."""
    result, rows = folder / f"{name}_result.json", '[{"batch": 2, "seconds": 1.5}]'
    words = [str(folder / f"{name}_ran"), str(result), rows]
    options = {"limit_seconds": 60.0, **more}
    return Part(
        name=name,
        title=name.capitalize(),
        command=(sys.executable, "-c", script, *words),
        result=result,
        read=lambda path: json.loads(path.read_text()),
        settings=("batch",),
        **options,
    )


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs given parts with some minutes at some place."""

    def call(parts: list[Part], place: Place = GPU, minutes: float = 1.0) -> int:
        monkeypatch.setattr(gpu_check, "list_parts", lambda *_, **__: parts)
        return gpu_check.main(["--minutes", str(minutes), "--output", str(tmp_path)], place)

    return call


def outcome(folder: Path, name: str) -> str:
    return json.loads((folder / f"{name}.json").read_text())["outcome"]


def test_each_part_leaves_json_csv_and_its_place_on_the_page(run: Run, tmp_path: Path) -> None:
    assert run([part(tmp_path, "one")]) == 0
    record = json.loads((tmp_path / "one.json").read_text())
    assert record["rows"] == [{"batch": 2, "seconds": 1.5}]
    assert {"command", "commit", "torch", "hardware", "wall_seconds"} <= record.keys()
    with (tmp_path / "one.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"batch": "2", "seconds": "1.5"}]
    page = (tmp_path / "page.md").read_text()
    assert "## One" in page
    assert "| batch | seconds |" in page


def test_a_cpu_tells_no_time_and_no_memory(run: Run, tmp_path: Path) -> None:
    run([part(tmp_path, "one")], CPU)
    record = json.loads((tmp_path / "one.json").read_text())
    assert record["rows"] == [{"batch": 2}]
    assert "wall_seconds" not in record
    assert "| seconds" not in (tmp_path / "page.md").read_text()
    assert (tmp_path / "one.csv").read_text().splitlines() == ["batch", "2"]


def test_what_is_done_is_not_run_again_and_the_rest_is(run: Run, tmp_path: Path) -> None:
    parts = [
        part(tmp_path, "done"),
        part(tmp_path, "broken", script="raise SystemExit(3)"),
        part(tmp_path, "trainings", goes_on=True),
    ]
    assert run(parts) == 1
    assert outcome(tmp_path, "broken") == "failed (3), see broken.log"
    parts[1] = part(tmp_path, "broken")
    assert run(parts) == 0
    runs = {each: (tmp_path / f"{each}_ran").read_text() for each in ("done", "trainings")}
    assert runs == {"done": "x", "trainings": "xx"}
    assert outcome(tmp_path, "broken") == "done"


def test_a_part_past_its_limit_is_ended_with_all_that_it_started(run: Run, tmp_path: Path) -> None:
    child = "import subprocess, sys, time; p = subprocess.Popen(['sleep', '300']); "
    script = child + "open(sys.argv[1], 'w').write(str(p.pid)); time.sleep(300)"
    begin = time.monotonic()
    run([part(tmp_path, "slow", script, limit_seconds=1.5), part(tmp_path, "next")])
    assert time.monotonic() - begin < 60
    assert outcome(tmp_path, "slow").startswith("cut off")
    assert outcome(tmp_path, "next") == "done"
    with pytest.raises(ProcessLookupError):
        _signal_living(int((tmp_path / "slow_ran").read_text()))


def _signal_living(pid: int) -> None:
    """os.kill, which also finds those that ended and were not waited for."""
    state = Path(f"/proc/{pid}/stat")
    if state.is_file() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
        raise ProcessLookupError
    os.kill(pid, 0)


def test_what_cannot_start_says_why(run: Run, tmp_path: Path) -> None:
    run([part(tmp_path, "late")], minutes=0)
    assert outcome(tmp_path, "late").startswith("not started")
    run([part(tmp_path, "lacking", missing="there is no data")])
    assert outcome(tmp_path, "lacking") == "skipped: there is no data"
    assert not list(tmp_path.glob("*_ran"))


def test_the_most_telling_parts_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check_parts, "_why_no_cifar", lambda place: "there is no CIFAR")
    found = {each.name: each for each in list_parts(GPU, tmp_path, minutes=10)}
    names = list(found)
    assert names[:2] == ["tests", "throughput_float32_2"]
    assert names[-2:] == ["ranks_1", "ranks_2"]
    assert found["cifar"].missing == "there is no CIFAR"
    assert not found["ranks_1"].missing
    assert "2 GPUs" in found["ranks_2"].missing
    batches = [name.rsplit("_", 1)[1] for name in names if name.startswith("throughput")]
    assert batches == ["2"] * 3 + ["16"] * 3 + ["4"] * 3 + ["8"] * 3


def test_the_throughput_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    rows = [
        {"scheme": "softmax", "precision": precision, "batch": batch, "images_per_second": batch}
        for precision in ("float32", "float16")
        for batch in (2, 16)
    ]
    gpu_check_page.save_figure(gpu_check_page.throughput_figure(rows), tmp_path / "figure.svg")
    text = (tmp_path / "figure.svg").read_text()
    assert all(word in text for word in ("float16", "softmax", "images a second"))
