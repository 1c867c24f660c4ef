"""Trains the runs of a table: several side by side, shared stages once, resumable."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import runpy
import subprocess
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import IO, Protocol

PROCESSOR_SECONDS_FILE = "processor_seconds.txt"
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
    forks: bool = False,
) -> None:
    """Train what has no results.json yet.

    Args:
        runs: in order of importance.
        output: folder of the runs' folders.
        command: of a run, given that folder; it resumes what an interruption left.
        jobs: runs side by side, one thread each.
        minutes: start no run after so many; None: until all are done.
        interrupt: also end the runs that are under way then; they go on from their checkpoint.
        forks: run the commands, which are Python scripts, in forks of this process, which has
            imported what they need; the processor time of each goes into its folder.
    """
    run_command = _run_in_fork if forks else _run
    if forks:
        _prepare_forks()
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
                code = run_command(command(run, output), log, limit)
        with lock:
            outcome = {0: "done", None: "interrupted"}.get(
                code, f"FAILED ({code}), see {folder / 'stdout.txt'}"
            )
            print(f"[{next(done)}] {run.name}: {outcome}", flush=True)
        return code == 0

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(train, runs))


def _run(command: list[str], log: IO[str], limit_seconds: float | None) -> int | None:
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


def _prepare_forks() -> None:
    """Do once what every run would do again."""
    import omegaconf  # noqa: F401
    import torch
    from detectron2.engine import defaults

    import balms_seg.engine.trainer  # noqa: F401

    if importlib.util.find_spec("tensorboard"):
        import torch.utils.tensorboard  # noqa: F401
    torch.set_num_threads(1)
    environment = defaults.collect_env_info()  # asks compilers, which takes longer than a run
    defaults.collect_env_info = lambda: environment


def _run_in_fork(command: list[str], log: IO[str], limit_seconds: float | None) -> int | None:
    """As `_run`, for an interpreter and a script, without starting the interpreter anew."""
    process = multiprocessing.get_context("fork").Process(
        target=_run_script, args=(command[1:], log.fileno(), Path(log.name).parent)
    )
    process.start()
    process.join(limit_seconds)
    if process.is_alive():
        process.terminate()
        process.join()
        return None
    return process.exitcode


def _run_script(arguments: list[str], log: int, folder: Path) -> None:
    """Run a script and end this process, past what its parent's threads would do at the end."""
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = sys.stderr = os.fdopen(log, "w", buffering=1, closefd=False)
    os.chdir(ROOT)
    sys.argv = arguments
    status = 0
    try:
        runpy.run_path(arguments[0], run_name="__main__")
        (folder / PROCESSOR_SECONDS_FILE).write_text(f"{time.process_time():.2f}")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
        print(end.code)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    os._exit(status)
