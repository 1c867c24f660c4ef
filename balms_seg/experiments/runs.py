"""Trains runs: several side by side, shared stages once, resumable."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, Protocol

import yaml

from balms_seg.durable_files import only_process
from balms_seg.evaluation.output.results_file import read_results
from balms_seg.experiments.cost import Cost, take_cost, write_cost
from balms_seg.experiments.processes import Ended, Start, start_process, wait_for
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
    checkpoints when this is called again. A run that fails ends none of the others.

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
    queue = _Queue(
        output,
        command,
        start,
        folder or Path.cwd(),
        deadline=time.monotonic() + (float("inf") if minutes is None else 60 * minutes),
    )
    queue.num_runs = len({name for run in runs for name in _unfinished(run, output)})
    for place in places:
        queue.places.put(place)
    taken = (
        f"Another process trains runs in {output}, and two would spoil what each of them measures; "
        "wait for it, or give another --output."
    )
    with (
        only_process(output / LOCK_FILE, taken),
        stop_signals.installed(),
        stop_signals.deferred(),
        ThreadPoolExecutor(len(places)) as pool,
    ):
        list(pool.map(queue.train, runs))
    return queue.failed


def _unfinished(run: Run, output: Path) -> list[str]:
    """The run and the stages before it, those that are to be trained."""
    if is_finished(output / run.name):
        return []
    return [run.name, *(_unfinished(run.after, output) if run.after else [])]


@dataclass
class _Queue:
    """The runs of one call, for several threads.

    Attributes:
        output: folder of the runs' folders.
        command: of a run.
        start: starts it.
        folder: where commands run.
        deadline: when all is to end.
        num_runs: how many are to be trained.
        num_ended: how many of them have ended.
        places: environments that are free.
        failed: names of the runs that failed.
    """

    output: Path
    command: Command
    start: Start
    folder: Path
    deadline: float
    num_runs: int = 0
    num_ended: int = 0
    places: SimpleQueue[Mapping[str, str]] = field(default_factory=SimpleQueue)
    failed: list[str] = field(default_factory=list)
    _locks: defaultdict[str, Lock] = field(default_factory=lambda: defaultdict(Lock))
    _telling: Lock = field(default_factory=Lock)

    def should_stop(self) -> bool:
        """Whether no run is to start, nor to go on."""
        return stop_signals.heard is not None or time.monotonic() >= self.deadline

    def train(self, run: Run) -> bool:
        """Train a run and the stages before it; whether it is finished."""
        with self._locks[run.name]:  # rows that share a stage wait for it
            if is_finished(self.output / run.name):
                return True
            if run.name in self.failed or (run.after and not self.train(run.after)):
                return False
            place = self.places.get()
            try:
                return not self.should_stop() and self._attempt(run, place)
            finally:
                self.places.put(place)

    def _attempt(self, run: Run, place: Mapping[str, str]) -> bool:
        folder = self.output / run.name
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / LOG_FILE
        cost = take_cost(folder) if log.is_file() else Cost()
        began = time.monotonic()
        with log.open("a", encoding="utf-8") as file:
            process = self.start(self.command(run, self.output), file, place, self.folder)
            ended = wait_for(process, self.should_stop)
        if cost is not None:
            cost += Cost(time.monotonic() - began, ended.processor_seconds)
            write_cost(folder, cost)
        done = is_finished(folder)
        self._tell(run, _outcome(ended, done, log, time.monotonic() - began))
        return done

    def _tell(self, run: Run, outcome: str) -> None:
        with self._telling:
            self.num_ended += 1
            if outcome.startswith(_FAILED):
                self.failed.append(run.name)
            print(f"[{self.num_ended}/{self.num_runs}] {run.name}: {outcome}", flush=True)


_FAILED = "FAILED"


def _outcome(ended: Ended, is_done: bool, log: Path, seconds: float) -> str:
    if is_done:
        return f"done in {seconds:.0f} s"
    if ended.was_told or ended.status == RESUME_EXIT_CODE:
        return f"interrupted after {seconds:.0f} s"
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    return f"{_FAILED} (exit status {ended.status}), see {log}: {last[:300]}"
