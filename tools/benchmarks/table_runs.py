"""Trains the runs of a table: several side by side, shared stages once, resumable."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parents[2]


class TableRun(Protocol):
    """One training, which may start from what another one leaves."""

    @property
    def name(self) -> str:
        """Folder of the run; equal runs of several tables share it."""

    @property
    def after(self) -> TableRun | None:
        """The stage before."""


def train_all(
    runs: Sequence[TableRun],
    output: Path,
    command: Callable[[TableRun, Path], list[str]],
    *,
    jobs: int,
    minutes: float | None = None,
    interrupt: bool = False,
) -> None:
    """Train what has no results.json yet.

    Args:
        runs: in order of importance.
        output: folder of the runs' folders.
        command: of a run, given that folder; it resumes what an interruption left.
        jobs: runs side by side, one thread each.
        minutes: start no run after so many; None: until all are done.
        interrupt: also end the runs that are under way then; they go on from their checkpoint.
    """
    deadline = time.monotonic() + (float("inf") if minutes is None else 60 * minutes)
    done, lock = count(1), threading.Lock()
    locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def train(run: TableRun) -> bool:
        """Whether the run is finished."""
        if run.after and not train(run.after):
            return False
        folder = output / run.name
        with locks[run.name]:  # rows that share a stage wait for it
            if (folder / "results.json").is_file():
                return True
            if time.monotonic() >= deadline:
                return False
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "stdout.txt").open("a") as log:
                limit = deadline - time.monotonic() if interrupt and minutes is not None else None
                code = _run(command(run, output), log, limit)
        with lock:
            outcome = {0: "done", None: "interrupted"}.get(
                code, f"FAILED ({code}), see {folder / 'stdout.txt'}"
            )
            print(f"[{next(done)}] {run.name}: {outcome}", flush=True)
        return code == 0

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(train, runs))


def _run(command: list[str], log: object, limit_seconds: float | None) -> int | None:
    """The exit status; None where the limit ended it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    try:
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=limit_seconds,
        ).returncode
    except subprocess.TimeoutExpired:
        return None
