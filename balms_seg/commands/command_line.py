"""From words on a command line to a command's one call, and from its error to one line."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType, TracebackType

from balms_seg.commands.config_keys import parse
from balms_seg.commands.imports import import_modules
from balms_seg.commands.outputs import readers_may_leave
from balms_seg.commands.table import COMMANDS
from balms_seg.requirements import explained

TRACEBACK_VARIABLE = "BALMS_SEG_TRACEBACK"
_FOLDER = __name__.rpartition(".")[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `balms-seg`.

    Args:
        arguments: what follows the program's name; None takes the process's own.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    name = next((name for name in COMMANDS if words[: name.count(" ") + 1] == name.split()), None)
    if name is not None:
        run_command(name, words[name.count(" ") + 1 :])
    elif words and words[0] not in ("-h", "--help"):
        sys.exit(
            f"balms-seg: there is no command {' '.join(words[:2])!r}; there are "
            f"{', '.join(COMMANDS)}."
        )
    else:
        with readers_may_leave():
            print(overview())


def run_command(name: str, arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments of one command and run it; what is wrong ends the process in one line.

    Args:
        name: a key of `COMMANDS`.
        arguments: what follows the command; None takes the process's own.
    """
    command = load_command(name)
    parser = argparse.ArgumentParser(
        prog=f"balms-seg {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    with errors_in_one_line(name), readers_may_leave():
        args = parse(parser, sys.argv[1:] if arguments is None else arguments)
        import_modules(getattr(args, "imports", ()))
        command.run(args)


def load_command(name: str) -> ModuleType:
    """The module of a command."""
    return import_module(f"{_FOLDER}.{COMMANDS[name]}")


def overview() -> str:
    """The commands with the first line of each one's help."""
    width = max(map(len, COMMANDS))
    lines = [
        f"  {name:<{width}}  {(load_command(name).__doc__ or '').partition(chr(10))[0]}"
        for name in COMMANDS
    ]
    return "\n".join(
        [
            "usage: balms-seg COMMAND ...",
            "",
            *lines,
            "",
            "balms-seg COMMAND --help says more. What is wrong is told in one line; with",
            f"{TRACEBACK_VARIABLE}=1 in the environment Python's traceback comes instead.",
        ]
    )


_EXPLAINED = (ValueError, OSError, RuntimeError, ImportError, KeyError, FloatingPointError)


@contextmanager
def errors_in_one_line(command: str) -> Iterator[None]:
    """End the process with one line instead of a traceback where an error says what to do.

    An error from outside this package may not say it: the line then names the variable that shows
    where it comes from.

    Args:
        command: what the line begins with.
    """
    try:
        yield
    except _EXPLAINED as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        if isinstance(error, ModuleNotFoundError):
            error = explained(error, "This")
        # str() of a KeyError, which names an unknown data set or key, would quote the message.
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        where = "" if _is_ours(error.__traceback__) else f" ({TRACEBACK_VARIABLE}=1 shows where)"
        sys.exit(f"{command}: {message}{where}")


def _is_ours(traceback: TracebackType | None) -> bool:
    """Whether this package raised the error."""
    module = ""
    while traceback is not None:
        module = traceback.tb_frame.f_globals.get("__name__", "")
        traceback = traceback.tb_next
    return module.partition(".")[0] == __name__.partition(".")[0]
