"""Where commands write: what they replace is said before they start, and readers may leave early.

`train`, `glyphs` and `features` write what costs hours, and have rules of their own.
"""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from balms_seg.wording import plain_path

logger = logging.getLogger(__name__)

_ENDED_BY_PIPE = 141  # what a shell reports of a program that its reader's end stopped


def output_path(text: str) -> Path:
    """A file or folder on the command line that a command writes; to be an argument's `type`."""
    path = plain_path(text)
    if path.is_dir() and any(path.iterdir()):
        logger.warning("%s is not empty; files of the same names are replaced there.", path)
    warn_of_replacing(path)
    return path


def warn_of_replacing(*files: Path) -> None:
    """Say of each file that is there that it is replaced."""
    for file in files:
        if file.is_file():
            logger.warning("%s is there already, and is replaced.", file)


@contextmanager
def readers_may_leave() -> Iterator[None]:
    """End without a word where nobody reads the output any longer, as behind `| head`."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _is_abandoned(sys.stdout.fileno()):
            raise
        # What Python itself flushes at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_ENDED_BY_PIPE)


def _is_abandoned(descriptor: int) -> bool:
    """Whether a pipe has no reader."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))
