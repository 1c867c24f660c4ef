"""Trains runs: several side by side, shared stages once, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

from balms_seg.durable_files import only_process
from balms_seg.evaluation.output.results_file import read_results
from balms_seg.experiments.cost import Cost, take_cost, write_cost
from balms_seg.experiments.processes import Start, start_process, wait_for
from balms_seg.stop_signals import RESUME_EXIT_CODE, stop_signals

LOCK_FILE = "runs.lock"
LOG_FILE = "stdout.txt"
RESULTS_FILE = "results.json"


class Run(Protocol):
    """One training, which may start from what another one leaves."""

    @property
    def name(self) -> str:
        """Folder of the run; equal runs of several tables share it."""

    @property
    def after(self) -> Run | None:
        """The stage before."""


# Of a run, of whatever kind the caller's are, given the folder of all runs.
Command = Callable[[Any, Path], Sequence[str]]


def is_finished(folder: Path) -> bool:
    """Whether a run's folder has its results, and not those of an evaluation on the way."""
    path = folder / RESULTS_FILE
    if not path.is_file():
        return False
    results = read_results(path)
    iteration, config = results.get("iteration"), results.get("config")
    if iteration is None or config is None:
        return True
    return iteration >= yaml.safe_load(config)["SOLVER"]["MAX_ITER"]


def train_all(
    runs: Sequence[Run],
    output: Path,
    command: Command,
    *,
    places: Sequence[Mapping[str, str]],
    minutes: float | None = None,
    start: Start = start_process,
    folder: Path | None = None,
) -> list[str]:
    """Train what is not finished, and print how each run ended.

    A stop signal, or the end of the time, ends the runs under way; they go on from their
    checkpoints when this is called again. A run that fails ends only those that start from it, and
    one that waits for its stage lets others pass.

    Args:
        runs: in order of importance.
        output: folder of the runs' folders.
        command: of a run; it resumes what an interruption left.
        places: what the environment has on top, of as many runs as are to be side by side.
        minutes: end after so many; None: when all are done.
        start: starts a command.
        folder: where commands run; None: where this process does.

    Returns:
        Names of the runs that failed.

    Raises:
        RuntimeError: another process trains runs in the folder.
    """
    steps = _in_order(runs)
    queue = _Queue(
        output,
        command,
        start,
        folder or Path.cwd(),
        deadline=time.monotonic() + (float("inf") if minutes is None else 60 * minutes),
        places=list(places),
        finished={run.name for run in steps if is_finished(output / run.name)},
    )
    wanted = {name for run in runs for name in queue.unfinished(run)}
    taken = (
        f"Another process trains runs in {output}, and two would spoil what each of them measures; "
        "wait for it, or give another --output."
    )
    with (
        only_process(output / LOCK_FILE, taken),
        stop_signals.installed(),
        stop_signals.deferred(),
    ):
        queue.train([run for run in steps if run.name in wanted])
    return queue.failed


def _in_order(runs: Sequence[Run]) -> list[Run]:
    """The runs and the stages before them, each once, a stage before what starts from it."""
    steps: dict[str, Run] = {}
    for run in runs:
        before = _in_order([run.after]) if run.after else []
        for step in (*before, run):
            steps.setdefault(step.name, step)
    return list(steps.values())


@dataclass
class _Queue:
    """The runs of one call.

    Attributes:
        output: folder of the runs' folders.
        command: of a run.
        start: starts it.
        folder: where commands run.
        deadline: when all is to end.
        places: environments that are free.
        finished: names of the runs that are.
        failed: names of those that failed.
    """

    output: Path
    command: Command
    start: Start
    folder: Path
    deadline: float
    places: list[Mapping[str, str]]
    finished: set[str]
    failed: list[str] = field(default_factory=list)

    def should_stop(self) -> bool:
        """Whether no run is to start, nor to go on."""
        return stop_signals.heard is not None or time.monotonic() >= self.deadline

    def unfinished(self, run: Run) -> list[str]:
        """The run and the stages before it, those that are to be trained."""
        if run.name in self.finished:
            return []
        return [run.name, *(self.unfinished(run.after) if run.after else [])]

    def train(self, runs: Sequence[Run]) -> None:
        """Train runs, the first whose stage is finished wherever a place is free."""
        waiting, num_runs, num_ended = list(runs), len(runs), 0
        under_way: dict[Future[str], tuple[Run, Mapping[str, str]]] = {}
        with ThreadPoolExecutor(len(self.places)) as pool:
            while True:
                while self.places and not self.should_stop() and (run := self._next(waiting)):
                    waiting.remove(run)
                    place = self.places.pop(0)
                    under_way[pool.submit(self._attempt, run, place)] = run, place
                if not under_way:
                    return
                for ended in wait(under_way, return_when=FIRST_COMPLETED).done:
                    run, place = under_way.pop(ended)
                    self.places.append(place)
                    num_ended += 1
                    print(f"[{num_ended}/{num_runs}] {run.name}: {ended.result()}", flush=True)

    def _next(self, waiting: Sequence[Run]) -> Run | None:
        ready = (run for run in waiting if not run.after or run.after.name in self.finished)
        return next(ready, None)

    def _attempt(self, run: Run, place: Mapping[str, str]) -> str:
        """Train one run; how it ended."""
        folder = self.output / run.name
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / LOG_FILE
        cost = take_cost(folder) if log.is_file() else Cost()
        began = time.monotonic()
        with log.open("a", encoding="utf-8") as file:
            process = self.start(self.command(run, self.output), file, place, self.folder)
            ended = wait_for(process, self.should_stop)
        seconds = time.monotonic() - began
        if cost is not None:
            cost += Cost(seconds, ended.processor_seconds)
            write_cost(folder, cost)
        if is_finished(folder):
            self.finished.add(run.name)
            return f"done in {seconds:.0f} s"
        if ended.was_told or ended.status == RESUME_EXIT_CODE:
            return f"interrupted after {seconds:.0f} s"
        self.failed.append(run.name)
        return f"FAILED (exit status {ended.status}), see {log}: {_last_line(log)[:300]}"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
