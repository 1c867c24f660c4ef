"""What the commands in tools/ share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors_in_one_line(command: str) -> Iterator[None]:
    """End the process with one line instead of a traceback where an error says what to do.

    Args:
        command: what the line begins with.
    """
    try:
        yield
    except (ValueError, OSError, RuntimeError, ModuleNotFoundError) as error:
        sys.exit(f"{command}: {error}")
    except KeyError as error:  # an unknown data set or key; str(error) would quote the message
        sys.exit(f"{command}: {error.args[0]}")
