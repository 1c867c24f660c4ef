"""What reading an image classification set gives: its images, its classes, and what it noticed."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)


class ImageRecords(NamedTuple):
    """A classification set.

    Attributes:
        records: a dict an image: "file_name" (an address of `image_files`), "key" (its identity: a
            name within the set that does not depend on where the set lies) and "label" in [0, K).
        class_names: K names.
        names_are_known: False for a list of numbers that says nothing else: its labels count in
            the classes of whatever set it is used with.
        notes: a sentence on what was left out and the like.
    """

    records: list[dict[str, Any]]
    class_names: tuple[str, ...]
    names_are_known: bool = True
    notes: tuple[str, ...] = ()


def log_notes(name: str, notes: tuple[str, ...]) -> None:
    """Warn of what was noticed while a set was read; once, however often it is read."""
    for note in notes:
        warn_once(f"Data set {name!r}: {note}")


@lru_cache(maxsize=256)
def warn_once(text: str) -> None:
    """Warn of something, once a process however often it is found."""
    logger.warning(text)
