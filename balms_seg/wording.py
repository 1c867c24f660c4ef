"""Numbers and paths in sentences: "1 image is", "2 images are"; b for a/../b."""

from __future__ import annotations

import os
from pathlib import Path


def counted(number: int, noun: str, form: str = "") -> str:
    """The number with the noun, in the plural where it is not one.

    Args:
        number: of the things.
        noun: in the singular, of a regular plural; its last word is the one that changes.
        form: how the number is written, as in a format string; "," marks thousands.
    """
    endings = {"y": f"{noun[:-1]}ies", "x": f"{noun}es", "s": f"{noun}es"}
    plural = endings.get(noun[-1], f"{noun}s")
    return f"{number:{form}} {noun if number == 1 else plural}"


def agreeing(number: int, one: str, several: str) -> str:
    """What goes with a number of things: `one` with a single one, else `several`, as is and are."""
    return one if number == 1 else several


def plain_path(path: str | os.PathLike[str]) -> Path:
    """The path without ".." behind a folder; where links would lead it elsewhere, their end."""
    plain = os.path.normpath(path)
    leads_elsewhere = os.path.realpath(plain) != os.path.realpath(path)
    return Path(os.path.realpath(path) if leads_elsewhere else plain)
