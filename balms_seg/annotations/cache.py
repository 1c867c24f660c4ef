"""Annotations kept on disk as one file of arrays, which processes map into memory and share.

The file's name is made of the json's size and content, so that another content is another file. It
is written beside and renamed, so processes may share the folder; one of them makes it while the
others wait. Every array has a checksum: what does not agree is made anew.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import logging
import mmap
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from .annotations import Annotations, Facts

logger = logging.getLogger(__name__)

_MAGIC = b"balms_seg annotations 2\n"  # raise the number when a meaning changes or one is added
_ALIGNMENT = 64


def default_cache_dir() -> Path:
    """The user's cache folder for this package."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "balms_seg"


def content_key(path: Path) -> str:
    """What names a json's cache: its size and a hash of its content."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{path.stat().st_size}_{digest[:32]}"


def load_or_build(key: str, folder: Path, build: Callable[[], Annotations]) -> Annotations:
    """The annotations kept under a key; where they are missing or damaged, built and kept.

    Where the folder cannot be written, what was built is returned with a warning.
    """
    path = folder / f"annotations_{key}.bin"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(path.with_suffix(".lock")):
            found = _load_checked(path)
            if found is None:
                built = build()
                save(built, path)
                found = load(path)
        return found
    except OSError as error:
        logger.warning(
            "Could not keep annotations in %s (%s); every process reads the json by itself. Set "
            "XDG_CACHE_HOME to a folder with room.",
            folder,
            error,
        )
        return build()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Wait for other processes that build the same; a process that ends gives way."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: several may build, the last one's stays
            logger.debug("No lock on %s.", path)
        yield


def _load_checked(path: Path) -> Annotations | None:
    try:
        return load(path, verify=True)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("Ignoring the damaged cache %s (%s); reading the json again.", path, error)
        return None


def num_bytes(annotations: Annotations) -> int:
    """Memory of the arrays."""
    arrays: dict[str, np.ndarray] = {}
    _collect(annotations, "", arrays)
    return sum(array.nbytes for array in arrays.values())


def save(annotations: Annotations, path: Path) -> None:
    """Write the arrays into a file, beside it first."""
    arrays: dict[str, np.ndarray] = {}
    _collect(annotations, "", arrays)
    layout, position = {}, 0
    for name, array in arrays.items():
        layout[name] = {
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "offset": position,
            "crc32": zlib.crc32(_bytes_of(array)),
        }
        position += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    facts = vars(annotations.facts)
    header = json.dumps({"facts": facts, "arrays": layout}).encode()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with open(descriptor, "wb") as file:
            start = f"{len(header):016}{zlib.crc32(header):010}".encode()
            file.write(_MAGIC + start + header)
            file.write(b" " * (-file.tell() % _ALIGNMENT))
            for array in arrays.values():
                file.write(_bytes_of(array))
                file.write(b"\0" * (-array.nbytes % _ALIGNMENT))
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def load(path: Path, *, verify: bool = False) -> Annotations:
    """Map a file's arrays into memory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not what `save` wrote; with `verify`, to the last byte.
    """
    with path.open("rb") as file:
        start = file.read(len(_MAGIC) + 26)
        if len(start) < len(_MAGIC) + 26 or not start.startswith(_MAGIC):
            raise ValueError("it does not begin as such a file does")
        length, checksum = int(start[len(_MAGIC) :][:16]), int(start[-10:])
        header = file.read(length)
        if zlib.crc32(header) != checksum:
            raise ValueError("its header does not agree with its checksum")
        first = -(-file.tell() // _ALIGNMENT) * _ALIGNMENT
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    header = json.loads(header)
    arrays = {}
    for name, where in header["arrays"].items():
        count = int(np.prod(where["shape"], dtype=np.int64))
        array = np.frombuffer(content, where["dtype"], count, first + where["offset"])
        if verify and zlib.crc32(_bytes_of(array)) != where["crc32"]:
            raise ValueError(f"{name} does not agree with its checksum")
        arrays[name] = array.reshape(where["shape"])
    facts = Facts(**header["facts"])
    return dataclasses.replace(_rebuild(Annotations, "", arrays, facts), cache_file=path)


def _bytes_of(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _collect(value: Any, name: str, arrays: dict[str, np.ndarray]) -> None:
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        full = f"{name}.{field.name}" if name else field.name
        if isinstance(inner, np.ndarray):
            arrays[full] = inner
        elif dataclasses.is_dataclass(inner) and not isinstance(inner, Facts):
            _collect(inner, full, arrays)


def _rebuild(kind: type, name: str, arrays: dict[str, np.ndarray], facts: Facts) -> Any:
    values: dict[str, Any] = {}
    for field, inner in get_type_hints(kind).items():
        full = f"{name}.{field}" if name else field
        if inner is np.ndarray:
            values[field] = arrays[full]
        elif inner is Facts:
            values[field] = facts
        elif isinstance(inner, type) and dataclasses.is_dataclass(inner):
            values[field] = _rebuild(inner, full, arrays, facts)
    return kind(**values)
