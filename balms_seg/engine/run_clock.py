"""How long a run takes, its earlier starts with it."""

from __future__ import annotations

import math
import time


class RunClock:
    """Wall-clock time of this process's run, and of the starts whose checkpoint it goes on from."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin a run."""
        self._start, self._earlier_seconds = time.perf_counter(), 0.0

    def go_on_from(self, earlier_seconds: float) -> None:
        """Count what the starts before this one took; nan where a checkpoint does not say it."""
        self._earlier_seconds = earlier_seconds

    def seconds(self) -> float | None:
        """Time so far; None where that of earlier starts is not known."""
        seconds = self._earlier_seconds + time.perf_counter() - self._start
        return None if math.isnan(seconds) else seconds


run_clock = RunClock()  # until a run begins: since the import
