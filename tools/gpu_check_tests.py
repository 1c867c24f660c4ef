#!/usr/bin/env python
"""pytest that notes each test's outcome at once: gpu_check_tests.py FILE [WORD ...].

A run that is cut off leaves what it saw. With the same FILE the next one runs what has not passed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from gpu_check_part import read_outcomes

_GOOD = ("passed", "skipped")


def main(words: Sequence[str]) -> int:
    """Run what is left; pytest's exit status, 0 where nothing is."""
    outcomes = Outcomes(Path(words[0]))
    status = pytest.main([*words[1:]], plugins=[outcomes])
    is_over = status == pytest.ExitCode.NO_TESTS_COLLECTED and outcomes.good
    return 0 if is_over else int(status)


class Outcomes:
    """A plugin of pytest."""

    def __init__(self, path: Path) -> None:
        """Note into a file, which may hold an earlier run's."""
        self.path = path
        self.good = {row["test"] for row in read_outcomes(path) if row["outcome"] in _GOOD}

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out what has passed."""
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in self.good])
        items[:] = [item for item in items if item.nodeid not in self.good]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test's own outcome, or why it could not start or end."""
        if report.when == "call" or report.outcome != "passed":
            row = {"test": report.nodeid, "outcome": report.outcome, "seconds": report.duration}
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
