"""A command in a process of its own: ended in time, its processor time measured."""

from __future__ import annotations

import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 120  # for the checkpoint of a run that was told to stop


class Process(Protocol):
    """One that was started; whoever waits for it sets the exit status."""

    pid: int
    returncode: int | None


# Command, log, environment, folder to run in.
Start = Callable[[Sequence[str], IO[str], Mapping[str, str], Path], Process]


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: exit status; below 0: minus the signal that ended it.
        was_told: whether it was told to stop.
        processor_seconds: its own and those of the processes that it waited for.
    """

    status: int
    was_told: bool
    processor_seconds: float


def start_process(
    command: Sequence[str], log: IO[str], environment: Mapping[str, str], folder: Path
) -> Process:
    """Start a program whose output goes to a log; it finds this package where this process does."""
    paths = [os.environ.get("PYTHONPATH", "")]
    if sysconfig.get_path("purelib") != _PACKAGE_ROOT:  # on the path anyway, and behind the library
        paths.insert(0, _PACKAGE_ROOT)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        **environment,
    }
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
    )


def wait_for(process: Process, should_stop: Callable[[], bool]) -> Ended:
    """Wait until a process has ended; it gets SIGTERM where it should stop, later SIGKILL."""
    told_at = None
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return Ended(process.returncode, told_at is not None, usage.ru_utime + usage.ru_stime)
        if told_at is None:
            if should_stop():
                os.kill(process.pid, signal.SIGTERM)
                told_at = time.monotonic()
        elif time.monotonic() - told_at > _GRACE_SECONDS:
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
