"""What a run has cost so far, over all attempts at it, in a file in its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from balms_seg.annotations.json_file import read_json
from balms_seg.durable_files import write_whole

COST_FILE = "cost.json"


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, and seconds of processors, which other work beside it changes less."""

    seconds: float = 0.0
    processor_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.processor_seconds + other.processor_seconds)


def read_cost(folder: Path) -> Cost | None:
    """The cost of a run; None where it was not measured, or an attempt at it was not."""
    path = folder / COST_FILE
    return Cost(**read_json(path)) if path.is_file() else None


def take_cost(folder: Path) -> Cost | None:
    """As `read_cost`, before a new attempt: the file goes until `write_cost` brings it back.

    So it is missing where whoever measures dies with the attempt.
    """
    cost = read_cost(folder)
    (folder / COST_FILE).unlink(missing_ok=True)
    return cost


def write_cost(folder: Path, cost: Cost) -> None:
    """Keep the cost of all attempts so far."""
    text = json.dumps(asdict(cost)) + "\n"
    write_whole(folder / COST_FILE, lambda file: file.write(text.encode()))
