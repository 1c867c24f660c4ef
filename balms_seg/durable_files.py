"""Files that are whole or not there, whatever ends their process, and files of one process."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PARTIAL_SUFFIX = ".partial"

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_whole(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Write a file beside its place, bring it to the disk, and move it there.

    A process that dies at any point leaves the old file or the new one, and perhaps a leftover
    that `clear_leftovers` removes.

    Args:
        path: its folder has to exist.
        write: gets a file open for binary writing.

    Raises:
        OSError: the disk is full; says how much is free. The old file is as it was.
    """
    path = Path(path)
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if any(one.errno in _DISK_FULL for one in _os_errors(error)):
            raise OSError(_full_message(path)) from error
        raise
    _sync_folder(path.parent)


def clear_leftovers(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove what a process that was killed had begun to write; the files removed."""
    found = sorted(Path(folder).glob(f"*{PARTIAL_SUFFIX}"))
    for path in found:
        path.unlink(missing_ok=True)
    return found


def open_alone(path: Path, taken: str) -> IO[bytes]:
    """A file, made where missing, under a lock that ends with it or with this process.

    Args:
        path: its folder is made, too.
        taken: what to say where another process has it.

    Raises:
        RuntimeError: another process has it.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        except FileNotFoundError:  # another process has just removed the empty folder
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise RuntimeError(taken) from None
        # The one before may have finished and removed the file between the two calls.
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()


@contextmanager
def only_process(path: Path, taken: str) -> Iterator[None]:
    """Hold `path` alone, see `open_alone`, and remove it at the end."""
    with open_alone(path, taken):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Without this the new name may be lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot sync folders
            raise
    finally:
        os.close(descriptor)


def _os_errors(error: BaseException | None) -> Iterator[OSError]:
    """Those an error was caused by: torch wraps what a file raises in errors of its own."""
    while error is not None:
        if isinstance(error, OSError):
            yield error
        error = error.__cause__ or error.__context__


def _full_message(path: Path) -> str:
    disk = os.statvfs(path.parent)
    free = disk.f_bavail * disk.f_frsize / 2**20
    return (
        f"Disk full: {path} could not be written; {free:.1f} MiB are free in {path.parent} now "
        "that the unfinished file is removed. Make room (SOLVER.CHECKPOINTS_TO_KEEP), or raise the "
        "quota; what was there before is intact."
    )
