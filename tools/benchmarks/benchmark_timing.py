"""Time of two functions side by side, memory of one, and tables of them, for `benchmark.py`."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

import torch

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


BuildStep = Callable[[str, argparse.Namespace], Callable[[], None]]


def peak_memory_mb(
    build_step: BuildStep, scheme: str, arguments: argparse.Namespace, *, calls: int
) -> int:
    """Peak while a scheme runs alone: of the GPU, or on a CPU of a whole process of its own.

    A process starts with the peak of the one that made it, so ask before taking memory here.

    Args:
        build_step: a module's function; a scheme and the arguments to one step of it.
        scheme: name of the scheme.
        arguments: with `threads` and `device`.
        calls: steps to run.
    """
    if arguments.device.startswith("cuda"):  # its peak can be set back
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return _run_and_measure(build_step, scheme, arguments, calls)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run_and_measure, (build_step, scheme, arguments, calls))


def _run_and_measure(
    build_step: BuildStep, scheme: str, arguments: argparse.Namespace, calls: int
) -> int:
    torch.set_num_threads(arguments.threads)
    step = build_step(scheme, arguments)
    for _ in range(calls):
        step()
    if arguments.device.startswith("cuda"):
        return round(torch.cuda.max_memory_allocated() / 2**20)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


def format_table(rows: list[Row]) -> str:
    """Rows as a Markdown table; numbers to three significant digits."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:#.3g}"
        return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)

    lines = [list(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "| " + " | ".join(value.ljust(w) for value, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    return "\n".join([text[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *text[1:]])
