"""`--import MODULE`: modules of one's own that register methods. A yaml file cannot import."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module


def add_import_argument(parser: argparse.ArgumentParser) -> None:
    """The flag, for commands that read a configuration."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module first, such as one that registers a method; may be repeated",
    )


def import_modules(names: Sequence[str]) -> None:
    """Import modules, from the current folder as well; every rank does so for itself.

    Raises:
        ImportError: there is no module of that name, or it cannot be imported.
    """
    folder = os.getcwd()
    if names and folder not in sys.path:
        sys.path.insert(0, folder)
    for name in names:
        try:
            import_module(name)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
                reason = f"neither {folder} nor the path (PYTHONPATH) has a module of that name"
                if name.endswith(".py"):
                    reason += "; give it without .py"
            else:
                reason = f"{type(error).__name__}: {error}"
            raise ImportError(f"--import {name} failed: {reason}.") from error
