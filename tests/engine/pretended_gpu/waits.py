"""How often the host waits for the device, and where: torch warns of it where it is asked to.

The pretended device warns in the same words as a real one.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import detectron2
import fvcore
import torch
import torchvision

import balms_seg

_TOLD = "called a synchronizing CUDA operation"
_PACKAGE = str(Path(balms_seg.__file__).parent) + "/"
_LIBRARIES = [str(Path(library.__file__).parent) for library in (detectron2, torchvision, fvcore)]


class Wait(NamedTuple):
    """One reason why the host waits for the device.

    Attributes:
        what: what torch says of it beside that it waits.
        ours: innermost line of this package behind it, "engine/step.py:N".
        theirs: innermost line of detectron2 and its like, where that called us not; else "".
    """

    what: str
    ours: str
    theirs: str


@contextmanager
def counted_waits() -> Iterator[Counter[Wait]]:
    """The waits from here to the end of the context."""
    waits: Counter[Wait] = Counter()

    def note(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        text = str(message)
        if text.startswith(_TOLD):
            waits[_where(text.removeprefix(_TOLD).strip())] += 1
        else:
            show(message, *args, **kwargs)

    with warnings.catch_warnings():
        show = warnings.showwarning
        warnings.filterwarnings("always", message=_TOLD)
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode("default")


def warn_of_wait(what: str) -> None:
    """As a real device does."""
    warnings.warn(f"{_TOLD} {what}", stacklevel=2)


def _where(what: str) -> Wait:
    ours, theirs = "", ""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if frame.f_code.co_name == "__torch_function__":
            name = ""  # what only passes on another's operator
        for library in _LIBRARIES:
            if name.startswith(f"{library}/") and not ours and not theirs:
                theirs = f"{Path(name).relative_to(Path(library).parent)}:{frame.f_lineno}"
        if name.startswith(_PACKAGE) and not ours:
            ours = f"{name.removeprefix(_PACKAGE)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return Wait(what, ours, theirs)
