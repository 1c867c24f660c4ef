"""One part of `gpu_check.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One command.

    Attributes:
        name: of its files.
        title: for the page.
        command: words.
        limit_seconds: it is ended after so many.
        result: the file that the command writes.
        read: that file to rows.
        settings: columns that are not measured, which alone are told of a CPU.
        missing: why it cannot run here; empty where it can.
        prepare: what has to be there first.
        goes_on: called again, its command does what is left; its result holds all so far.
        num_rows: where it may end well before all is done: rows when it is; else 1.
    """

    name: str
    title: str
    command: tuple[str, ...]
    limit_seconds: float
    result: Path
    read: Callable[[Path], list[Row]]
    settings: tuple[str, ...]
    missing: str = ""
    prepare: Callable[[], None] | None = None
    goes_on: bool = False
    num_rows: int = 1


def read_outcomes(path: Path) -> list[dict[str, Any]]:
    """The last outcome of each test in a file of `gpu_check_tests.py`; none where there is none."""
    lines = path.read_text().splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines]
    return list({row["test"]: row for row in rows}.values())
