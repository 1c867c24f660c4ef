"""What gpu_check runs, in which order, what it leaves, and what it does not run again."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path[:0] = [str(TOOLS), str(TOOLS / "benchmarks")]

import gpu_check  # noqa: E402
import gpu_check_page  # noqa: E402
import gpu_check_trainings  # noqa: E402
from gpu_check_part import Part, read_outcomes  # noqa: E402
from gpu_check_parts import list_parts  # noqa: E402
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
    assert not [name for name in ("one.log", "one_result.json") if (tmp_path / name).exists()]


def test_what_is_done_is_not_run_again_and_the_rest_is(run: Run, tmp_path: Path) -> None:
    parts = [part(tmp_path, "done"), part(tmp_path, "broken", script="raise SystemExit(3)")]
    assert run(parts) == 1
    assert outcome(tmp_path, "broken") == "failed (3), see broken.log"
    parts[1] = part(tmp_path, "broken")
    assert run(parts) == 0
    assert (tmp_path / "done_ran").read_text() == "x"
    assert outcome(tmp_path, "broken") == "done"


def test_trainings_go_on_until_all_are_done(run: Run, tmp_path: Path) -> None:
    one_more = (
        "import json, sys; from pathlib import Path; path = Path(sys.argv[2]); "
        "rows = json.loads(path.read_text()) if path.exists() else []; "
        "path.write_text(json.dumps([*rows, {'batch': len(rows)}]))"
    )
    parts = [part(tmp_path, "trainings", one_more, goes_on=True, num_rows=2)]
    outcomes = []
    for _ in range(3):
        assert run(parts) == 0
        outcomes.append(outcome(tmp_path, "trainings"))
    assert outcomes == ["to go on: 1 of 2 are done", "done", "done"]
    assert len(json.loads((tmp_path / "trainings.json").read_text())["rows"]) == 2


def test_a_part_cut_off_leaves_its_rows_also_where_a_later_call_has_no_time(
    run: Run, tmp_path: Path
) -> None:
    parts = [part(tmp_path, "slow", f"{WRITE}; import time; time.sleep(300)", limit_seconds=2)]
    for minutes in (1.0, 0.0):
        run(parts, minutes=minutes)
        assert outcome(tmp_path, "slow").startswith("cut off")
        assert json.loads((tmp_path / "slow.json").read_text())["rows"]
        assert "| 2     | 1.50    |" in (tmp_path / "page.md").read_text()


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


def test_a_page_tells_of_parts_that_ran_beside_one_that_did_not(run: Run, tmp_path: Path) -> None:
    run([part(tmp_path, "first"), part(tmp_path, "lacking", missing="there is no data")])
    rows = (tmp_path / "page.md").read_text().splitlines()[2:6]
    assert [row.split("|")[-2].strip() for row in (rows[0], rows[3])] == ["seconds", "-"]
    assert float(rows[2].split("|")[-2]) < 60


def test_a_part_finds_packages_where_its_caller_does(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "lies_elsewhere.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    run([part(tmp_path, "importing", f"import lies_elsewhere; {WRITE}")])
    assert outcome(tmp_path, "importing") == "done"


def test_what_cannot_start_says_why(run: Run, tmp_path: Path) -> None:
    run([part(tmp_path, "late")], minutes=0)
    assert outcome(tmp_path, "late").startswith("not started")
    run([part(tmp_path, "lacking", missing="there is no data")])
    assert outcome(tmp_path, "lacking") == "skipped: there is no data"
    assert not list(tmp_path.glob("*_ran"))


@pytest.fixture
def _without_cifar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check_trainings, "_why_no_cifar", lambda place: "there is no CIFAR")


@pytest.mark.usefixtures("_without_cifar")
def test_the_most_telling_parts_come_first(tmp_path: Path) -> None:
    found = {each.name: each for each in list_parts(GPU, tmp_path, minutes=10)}
    of_batch = {
        batch: [
            f"throughput_{precision}_{batch}" for precision in ("float32", "float16", "bfloat16")
        ]
        for batch in (2, 4, 8, 16)
    }
    assert list(found) == [
        *("tests", of_batch[2][0], "ranks_1", "ranks_2", "meta", "meta_sampler", "loss_kernels"),
        *of_batch[2][1:],
        *("cifar_rho200", *of_batch[16], *of_batch[4], *of_batch[8], "cifar_rho100"),
    ]
    assert sum(found[name].limit_seconds for name in ("tests", *of_batch[2][:1])) <= 5 * 60
    assert found["cifar_rho200"].missing == "there is no CIFAR"
    assert found["cifar_rho200"].num_rows == 36  # rows times seeds
    assert not found["ranks_1"].missing
    assert "2 GPUs" in found["ranks_2"].missing


@pytest.mark.usefixtures("_without_cifar")
def test_every_file_with_tests_of_a_gpu_is_run(tmp_path: Path) -> None:
    command = list_parts(GPU, tmp_path, minutes=10)[0].command
    files = [word for word in command if word.endswith(".py")][1:]
    assert files[1] == "tests/engine/pretended_gpu/test_one_step.py"
    assert len(files) == len(set(files))
    assert {"tests/losses/test_loss_contract.py", "tests/engine/test_data_parallel.py"} <= {*files}
    assert len([file for file in files if "pretended_gpu" in file]) >= 8


def test_tests_that_have_passed_are_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # plugins take seconds
    ran, outcomes = tmp_path / "ran", tmp_path / "outcomes.jsonl"
    (tmp_path / "test_it.py").write_text(
        "import os, pathlib\n"
        f"ran, right = pathlib.Path({str(ran)!r}), pathlib.Path({str(tmp_path / 'right')!r})\n"
        "def test_passes(): ran.open('a').write('p')\n"
        "def test_breaks(): ran.open('a').write('b'); assert right.exists()\n"
        "def test_ends_the_process(): right.exists() or os._exit(9)\n"
    )
    runner = [sys.executable, str(TOOLS / "gpu_check_tests.py"), str(outcomes)]
    command = [*runner, str(tmp_path), "-q", "-p", "no:cacheprovider"]

    def call() -> int:
        return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode

    assert call() == 9
    assert [row["outcome"] for row in read_outcomes(outcomes)] == ["passed", "failed"]
    (tmp_path / "right").touch()
    assert call() == call() == 0
    assert [row["outcome"] for row in read_outcomes(outcomes)] == ["passed"] * 3
    assert ran.read_text() == "pbb"


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
