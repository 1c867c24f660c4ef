"""Timing of two functions side by side, for `tools/benchmark.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def measure_alternately(
    first: Callable[[], None],
    second: Callable[[], None],
    *,
    repetitions: int,
    calls: int = 1,
    clock: str = "wall",
) -> tuple[list[float], list[float]]:
    """Time two functions in turn, after one discarded round.

    Args:
        first: the reference.
        second: what is compared with it.
        repetitions: timed rounds; the order within a round alternates.
        calls: calls per timing, for functions too short for the clock.
        clock: "wall", or "cpu" for the processor time of this process, which other processes on a
            busy machine do not lengthen.

    Returns:
        Seconds per call of each, one entry a round.
    """
    now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for round_index in range(repetitions + 1):
        for side in (0, 1) if round_index % 2 else (1, 0):
            function = (first, second)[side]
            start = now()
            for _ in range(calls):
                function()
            if round_index > 0:
                seconds[side].append((now() - start) / calls)
    return seconds[0], seconds[1]
