"""Headers of all images of a set: read in parallel, and kept on disk for the next run."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from balms_seg.data.images.image_files import read_bytes, split_archive
from balms_seg.decoding import ImageHeader, decode_image, read_header
from balms_seg.progress import with_progress

logger = logging.getLogger(__name__)

_FORMAT_VERSION = 2  # part of the cache's name: raise it when a header says something else
_NUM_THREADS = 16  # most of the time goes into waiting for the disk
_ENDS = ((b"\xff\xd8", b"\xff\xd9"), (b"\x89PNG", b"IEND"))  # how JPEG and PNG begin and end
_TAIL_BYTES = 1 << 12  # some programs leave a little behind the end
_one_at_a_time = threading.Lock()  # decoding may take gigabytes
_DTYPE = np.dtype(
    [
        *(("size", "i8"), ("time", "i8")),  # of the file: bytes, nanoseconds
        *(("width", "i4"), ("height", "i4"), ("orientation", "i2")),
        *(("mode", "U8"), ("bits", "i2"), ("has_transparency", "?")),
    ]
)


def read_headers(
    addresses: Sequence[str], cache_dir: str | Path | None = None
) -> list[ImageHeader | OSError]:
    """The header of each image, or why it cannot be read; one that may be cut short is decoded.

    What was read is kept; an image is read again where the size or the time of its file (of the
    archive, for a member) is another. A cache that cannot be read or written costs the time alone.

    Args:
        addresses: of files and members of archives, see `image_files`.
        cache_dir: a folder; ${XDG_CACHE_HOME:-~/.cache}/balms_seg by default.
    """
    path = _cache_path(addresses, cache_dir)
    known = _load(path, len(addresses))
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        rows = with_progress(
            pool.map(_read_row, addresses, known),
            total=len(addresses),
            label="reading image headers",
            unit="image",
        )
        found = list(rows)
    table = np.zeros(len(found), _DTYPE)  # a size of 0 is no image's, so failures are read again
    for place, row in enumerate(found):
        if not isinstance(row, OSError):
            table[place] = row
    if not np.array_equal(table, known):
        _save(path, table)
    return [row if isinstance(row, OSError) else ImageHeader(*row[2:]) for row in found]


def _read_row(address: str, known: np.void) -> tuple[Any, ...] | OSError:
    """A row of the table; the known one where the file is as it was."""
    inside = split_archive(address)
    try:
        status = os.stat(address if inside is None else inside[0])
        stamp = status.st_size, status.st_mtime_ns
        if stamp == (known["size"], known["time"]):
            return tuple(known.item())
        source = address if inside is None else read_bytes(address)
        header = read_header(source)
        if _lacks_its_end(source):
            with _one_at_a_time:
                decode_image(source)  # which says what is missing, if anything is
    except OSError as error:
        return error if inside is None else OSError(f"{address}: {error}")
    return (*stamp, *astuple(header))


def _lacks_its_end(source: str | bytes) -> bool:
    """Whether a file may have been cut short: no end is near where that of its format has to be."""
    if isinstance(source, bytes):
        start, tail = source[:4], source[-_TAIL_BYTES:]
    else:
        with open(source, "rb") as file:
            start = file.read(4)
            file.seek(-min(_TAIL_BYTES, os.fstat(file.fileno()).st_size), os.SEEK_END)
            tail = file.read()
    return any(start.startswith(begin) and end not in tail for begin, end in _ENDS)


def _cache_path(addresses: Sequence[str], cache_dir: str | Path | None) -> Path:
    if cache_dir is None:
        root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        cache_dir = Path(root).expanduser() / "balms_seg"
    digest = hashlib.sha256(str(_FORMAT_VERSION).encode())
    for address in addresses:
        digest.update(os.fsencode(os.path.abspath(address)) + b"\0")
    return Path(cache_dir) / f"image_headers_{digest.hexdigest()[:32]}.npy"


def _load(path: Path, number: int) -> np.ndarray:
    try:
        table = np.load(path, allow_pickle=False)
        if table.dtype == _DTYPE and table.shape == (number,):
            return table
    except FileNotFoundError:
        pass
    except (OSError, ValueError, EOFError) as error:
        logger.warning("The image headers kept in %s cannot be read (%s).", path, error)
    return np.zeros(number, _DTYPE)


def _save(path: Path, table: np.ndarray) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            np.save(file, table)
        os.replace(file.name, path)
    except OSError as error:
        logger.warning("The image headers cannot be kept in %s (%s).", path, error)
