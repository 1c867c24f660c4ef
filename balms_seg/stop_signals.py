"""What a process does when it is told to stop: by a scheduler, a closed terminal, or Ctrl-C.

The first signal ends the process with `RESUME_EXIT_CODE`, which says that the same command with
--resume goes on: at once, or where `deferred` holds, when whoever asked for that lets it. The
second one ends it on the spot.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)
RESUME_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: failed for now, try again

# Of one wish to stop, a process may hear twice: from the scheduler and from its launcher.
_SAME_SECONDS = 1.0


class StoppedBySignal(SystemExit):
    """Ends the process with `RESUME_EXIT_CODE`, without a traceback."""

    def __init__(self, name: str) -> None:
        """Say which signal it was."""
        super().__init__(RESUME_EXIT_CODE)
        self.name = name


class StopSignals:
    """Hears the signals of this process."""

    def __init__(self) -> None:
        self._heard: str | None = None
        self._heard_at = 0.0
        self._num_deferring = 0

    @property
    def heard(self) -> str | None:
        """Name of the signal that was heard; None: of none."""
        return self._heard

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Hear signals, in the main thread; afterwards they do what they did before."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._hear) for number in heeded_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if not any(handler == self._hear for handler in before.values()):
                self._heard = None

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A signal is noted only; call `stop_if_heard` where it is good to stop."""
        self._num_deferring += 1
        try:
            yield
        finally:
            self._num_deferring -= 1

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within `deferred`: a signal stops at once again, also one that was noted before."""
        deferring, self._num_deferring = self._num_deferring, 0
        try:
            self.stop_if_heard()
            yield
        finally:
            self._num_deferring = deferring

    def stop_if_heard(self) -> None:
        """Raise StoppedBySignal after a signal."""
        if self._heard is not None:
            raise StoppedBySignal(self._heard)

    def _hear(self, number: int, frame: FrameType | None) -> Any:
        name = signal.Signals(number).name
        now = time.monotonic()
        if self._heard is not None:
            if now - self._heard_at > _SAME_SECONDS:
                os._exit(128 + number)
            return
        self._heard, self._heard_at = name, now
        if self._num_deferring == 0:
            raise StoppedBySignal(name)
        # Not logging, which may be at work in the very code that was interrupted.
        os.write(2, f"{name}: stopping after this iteration; again to stop at once\n".encode())


stop_signals = StopSignals()


def heeded_signals() -> list[signal.Signals]:
    """Those not ignored so far: nohup ignores SIGHUP, and a shell's background jobs SIGINT."""
    return [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]


@contextmanager
def held_back(start_method: str | None) -> Iterator[None]:
    """Start data workers in it: all their threads, those of imports too, have signals blocked.

    One thread that takes a signal is enough to end a process, and a worker that is spawned imports
    libraries with threads before its worker_init_fn runs. The caller hears signals afterwards.

    Args:
        start_method: of the workers; None or "fork" where nothing is imported anew.
    """
    if start_method not in (None, "fork"):
        resource_tracker.ensure_running()  # which unblocks signals once it has started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_parent(worker_id: int = 0) -> None:
    """For data workers: a signal to all processes of a job does not end them before their parent.

    Only the parent's own SIGTERM does, with which multiprocessing ends its children. Workers that
    do not come from a fork have to be started `held_back`.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_obey, args=(parent.pid,), daemon=True).start()


def _obey(parent_id: int) -> None:
    while True:
        heard = signal.sigwaitinfo(SIGNALS)
        if heard.si_signo == signal.SIGTERM and heard.si_pid == parent_id:
            os._exit(0)
