"""Tables as csv: utf-8, and lines that end as those of every other text file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Protocol


class RowWriter(Protocol):
    """What `csv.writer` gives; its own type has no public name."""

    def writerow(self, row: Iterable[Any], /) -> Any:
        """Write one line."""

    def writerows(self, rows: Iterable[Iterable[Any]], /) -> Any:
        """Write a line for each."""


def row_writer(file: IO[str]) -> RowWriter:
    """A writer of rows; without its `lineterminator` the csv module ends lines as on Windows."""
    return csv.writer(file, lineterminator="\n")


@contextmanager
def csv_file(path: str | os.PathLike[str]) -> Iterator[RowWriter]:
    """Open a new csv for writing rows; its folder has to exist."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        yield row_writer(file)
