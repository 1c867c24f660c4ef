"""Ranks of a run as forks of this process, which has imported everything already."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

_ALONE_SECONDS = 900  # for a run that is left alone


class Rank:
    """A function that runs in a fork of this process, with its output in a file."""

    def __init__(self, function: Callable[[], None], log: Path) -> None:
        self.log = log
        self.exit_code: int | None = None  # until it has ended
        self._id = os.fork()
        if self._id == 0:
            self._run(function)

    def _run(self, function: Callable[[], None]) -> NoReturn:
        status = 1
        try:
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT)
            os.dup2(output, 1)
            os.dup2(output, 2)
            function()
            status = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)

    def is_running(self) -> bool:
        """Whether it has not ended."""
        if self.exit_code is None:
            child, status = os.waitpid(self._id, os.WNOHANG)
            self.exit_code = os.waitstatus_to_exitcode(status) if child else None
        return self.exit_code is None

    def kill(self) -> None:
        """With SIGKILL, unless it has ended: its number may be another's by now."""
        if self.is_running():
            os.kill(self._id, signal.SIGKILL)


def ended(ranks: Sequence[Rank], seconds: float) -> bool:
    """Wait for all to end; False after so many seconds."""
    deadline = time.monotonic() + seconds
    waiting = ranks
    while waiting := [rank for rank in waiting if rank.is_running()]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def finish(ranks: Sequence[Rank]) -> None:
    """Wait for a run that nobody kills to end.

    Raises:
        RuntimeError: it did not end, or with an error; shows the end of what it wrote.
    """
    ended(ranks, _ALONE_SECONDS)
    for rank in ranks:
        if rank.exit_code != 0:
            raise RuntimeError(
                f"A run that was left alone ended with {rank.exit_code} (None: not at all):\n"
                f"{rank.log.read_text(errors='replace')[-4000:]}"
            )
