"""Runs functions in a process of its own, and tells how they ended within time and memory."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 10  # of the processor
_WAITED = 6  # times as long, by the clock, since others use the processor too
ADDRESSES_BYTES = 1 << 32  # protects the machine; what counts is what is used
_M_ARENA_MAX = -8  # of mallopt


@dataclass(frozen=True)
class Outcome:
    """What became of reading files.

    Attributes:
        state: "value", "error" (in one line), or a fault: "traceback", "signal", "hang", "memory".
        value: what came out, or what the error says.
        seconds: of the processor that it took.
        added_bytes: of memory, at the peak, over what the process began with.
    """

    state: str
    value: Any = None
    seconds: float = 0.0
    added_bytes: int = 0


def in_own_process(
    work: Mapping[str, Callable[[], Any]],
    *,
    memory_bytes: int = ADDRESSES_BYTES,
    seconds: int = SECONDS,
) -> dict[str, Outcome]:
    """What functions give that run one after the other, with limits on time and memory.

    A fault of the process is that of all of them.

    Args:
        work: functions by name.
        memory_bytes: that they may add to what the process began with.
        seconds: of the processor that they may take together.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _run_child(work, write_end, seconds)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as file:
        answer = file.read()
    _, status, used = os.wait4(child, 0)
    taken = used.ru_utime + used.ru_stime
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        state = "hang" if number in (signal.SIGALRM, signal.SIGXCPU) else "signal"
        return {name: Outcome(state, number, taken) for name in work}
    added, states = json.loads(answer)
    if added > memory_bytes:
        said = f"{added >> 20} MiB, expected at most {memory_bytes >> 20}"
        states = {name: ("memory", said) for name in work}
    return {name: Outcome(*state, taken, added) for name, state in states.items()}


def _run_child(work: Mapping[str, Callable[[], Any]], write_end: int, seconds: int) -> None:
    """Run, write what came out, and end the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)  # an arena a thread would look like memory used
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESSES_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    signal.alarm(_WAITED * seconds)
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
    before = _memory_bytes("VmRSS")
    states = {name: _tried(one) for name, one in work.items()}
    added = _memory_bytes("VmHWM") - before
    with os.fdopen(write_end, "wb") as file:
        file.write(json.dumps([added, states]).encode())
    os._exit(0)


def _memory_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(one.split()[1]) << 10 for one in lines if one.startswith(f"{field}:"))


def _tried(work: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "value", work()
    except MemoryError as error:
        return "memory", repr(error)
    except (ValueError, OSError) as error:
        is_line = str(error) and type(error) is not UnicodeDecodeError
        return ("error" if is_line else "traceback"), f"{type(error).__name__}: {error}"[:500]
    except BaseException as error:
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", f"{error!r} at {where.filename}:{where.lineno}"[:500]
