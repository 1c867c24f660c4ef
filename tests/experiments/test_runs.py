"""Runs side by side: in time, resumed, failing, each in its place, and what they have cost."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from balms_seg.durable_files import only_process
from balms_seg.experiments import processes
from balms_seg.experiments.cost import Cost, read_cost, write_cost
from balms_seg.experiments.machine import places
from balms_seg.experiments.processes import start_process, wait_for
from balms_seg.experiments.runs import LOCK_FILE, Command, is_finished, train_all

RESULTS = '{"schema_version": 1, "metrics": {}}'
FINISH = f"open(sys.argv[1] + '/results.json', 'w').write({RESULTS!r})"


def made_up(*names: str) -> list[SimpleNamespace]:
    return [SimpleNamespace(name=name, after=None) for name in names]


def script(text: str) -> Command:
    """The command of a run: Python lines that get the run's folder."""
    return lambda run, output: [sys.executable, "-c", f"import sys\n{text}", f"{output / run.name}"]


def told(captured: pytest.CaptureFixture[str]) -> list[str]:
    return captured.readouterr().out.splitlines()


def test_a_run_that_fails_ends_no_other_and_its_last_line_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"if 'bad' in sys.argv[1]: sys.exit('out of luck')\n{FINISH}"
    failed = train_all(made_up("bad", "good"), tmp_path, script(text), places=places(1))
    assert failed == ["bad"]
    lines = told(capsys)
    assert lines[0].startswith("[1/2] bad: FAILED (exit status 1), see ")
    assert lines[0].endswith("stdout.txt: out of luck")
    assert lines[1].startswith("[2/2] good: done in ")
    again = train_all(made_up("bad", "good"), tmp_path, script(FINISH), places=places(1))
    assert again == []
    assert told(capsys)[0].startswith("[1/1] bad: done in ")


def test_two_at_a_time_in_one_folder_are_refused(tmp_path: Path) -> None:
    with only_process(tmp_path / LOCK_FILE, "taken"):
        with pytest.raises(RuntimeError, match=f"Another process trains runs in {tmp_path}"):
            train_all(made_up("a"), tmp_path, script(FINISH), places=places(1))
        assert not (tmp_path / "a").exists()
    assert train_all(made_up("a"), tmp_path, script(FINISH), places=places(1)) == []
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_run_without_results_has_failed(tmp_path: Path) -> None:
    assert train_all(made_up("a"), tmp_path, script(""), places=places(1)) == ["a"]


def test_runs_under_way_end_in_time_and_are_taken_up_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = made_up("first", "second")
    begin = time.monotonic()
    failed = train_all(
        runs, tmp_path, script("import time; time.sleep(300)"), places=places(1), minutes=0.005
    )
    assert time.monotonic() - begin < 60
    assert failed == []
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    assert "first: interrupted" in told(capsys)[0]
    train_all(runs, tmp_path, script(FINISH), places=places(2))
    assert all(is_finished(tmp_path / run.name) for run in runs)


def test_a_run_that_does_not_heed_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_GRACE_SECONDS", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
    with (tmp_path / "log").open("w") as log:
        process = start_process([sys.executable, "-c", deaf], log, {}, tmp_path)
        time.sleep(0.3)
        ended = wait_for(process, lambda: True)
    assert (ended.status, ended.was_told) == (-signal.SIGKILL, True)


def test_each_run_has_a_place_of_its_own(tmp_path: Path) -> None:
    note = "import os, time; time.sleep(0.3); g = os.environ['CUDA_VISIBLE_DEVICES']"
    text = f"{note}\nopen(sys.argv[1] + '/gpu', 'w').write(g)\n{FINISH}"
    train_all(made_up("a", "b"), tmp_path, script(text), places=places(2, ["3", "5"]))
    assert {(tmp_path / name / "gpu").read_text() for name in "ab"} == {"3", "5"}


def test_results_of_an_evaluation_on_the_way_are_not_the_end(tmp_path: Path) -> None:
    config = "SOLVER:\n  MAX_ITER: 20\n"
    for iteration, finished in [(10, False), (20, True), (None, True)]:
        record = {"iteration": iteration, "config": config, "metrics": {}, "schema_version": 1}
        (tmp_path / "results.json").write_text(json.dumps(record))
        assert is_finished(tmp_path) is finished


def test_cost_adds_up_over_attempts(tmp_path: Path) -> None:
    spin = "import time\nwhile time.process_time() < 0.3: pass"
    folder = tmp_path / "a"
    train_all(made_up("a"), tmp_path, script(spin), places=places(1))
    once = read_cost(folder)
    assert 0.3 <= once.processor_seconds <= once.seconds + 0.1
    train_all(made_up("a"), tmp_path, script(f"{spin}\n{FINISH}"), places=places(1))
    assert read_cost(folder).processor_seconds >= once.processor_seconds + 0.3


def test_cost_is_unknown_where_an_attempt_was_not_measured(tmp_path: Path) -> None:
    """As where the machine stopped: that attempt has left its output, and no cost."""
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "stdout.txt").write_text("iteration 5\n")
    train_all(made_up("a"), tmp_path, script(FINISH), places=places(1))
    assert read_cost(folder) is None
    write_cost(folder, Cost(1.0, 2.0))
    assert read_cost(folder) == Cost(1.0, 2.0)


def test_a_stage_that_failed_is_tried_once_and_ends_what_starts_from_it(tmp_path: Path) -> None:
    (stage,) = made_up("stage")
    runs = [SimpleNamespace(name=name, after=stage) for name in ("one", "other")]
    asked: list[str] = []

    def command(run: SimpleNamespace, output: Path) -> Sequence[str]:
        asked.append(run.name)
        return ["false"]

    assert train_all(runs, tmp_path, command, places=places(2)) == ["stage"]
    assert asked == ["stage"]


def test_a_stage_under_way_keeps_no_place_from_other_runs(tmp_path: Path) -> None:
    """Two rows of each of two seeds, two places: the stages train side by side."""
    stages = made_up("stage0", "stage1")
    runs = [SimpleNamespace(name=f"{row}{s.name}", after=s) for s in stages for row in "ab"]
    text = f"""
import os, time
end = time.monotonic() + 30
open(sys.argv[1] + '/began', 'w').close()
other = sys.argv[1][:-1] + str(1 - int(sys.argv[1][-1])) + '/began'
while '/stage' in sys.argv[1] and not os.path.exists(other) and time.monotonic() < end:
    time.sleep(0.02)
if time.monotonic() >= end:
    sys.exit('alone')
{FINISH}"""
    assert train_all(runs, tmp_path, script(text), places=places(2)) == []
    assert all(is_finished(tmp_path / run.name) for run in [*stages, *runs])
