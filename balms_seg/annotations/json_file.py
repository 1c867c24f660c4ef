"""Reading json that may be large, compressed, cut short, or no json at all."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from balms_seg.wording import plain_path

# How gzip, zip, bzip2, xz and zstd begin.
_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


def read_json(
    path: str | Path,
    *,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """The content of a json file; `object_pairs_hook` as in Python's json.

    Raises:
        FileNotFoundError: there is no such file; the message says up to where the path exists.
        ValueError: it is a folder, compressed, empty, cut short, not UTF-8 or not json; the message
            has the byte.
    """
    path = check_is_file(path)
    raw = path.read_bytes()
    check_start(path, raw)
    try:
        with paused_garbage_collection():
            return json.loads(raw, object_pairs_hook=object_pairs_hook)
    except UnicodeDecodeError as error:
        raise ValueError(encoding_message(path, error.start, len(raw))) from error
    except json.JSONDecodeError as error:
        raise ValueError(_malformed_message(path, error, len(raw))) from error
    except RecursionError:
        raise ValueError(f"{path} is not valid json: values are nested too deep.") from None


def check_is_file(path: str | Path) -> Path:
    """The path with `~` resolved; raises as `read_json` does where it is no file."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"Expected a json file but {path} is a folder.")
    if not path.is_file():
        raise FileNotFoundError(_missing_message(path))
    return path


def check_start(path: Path, start: bytes) -> None:
    """Raise ValueError where a file's first bytes say that it is compressed, or has no text."""
    if start.startswith(_COMPRESSED):
        raise ValueError(
            f"{path} is compressed; unpack it and give the json inside (a .pth or .npz has none)."
        )
    if not start.strip():
        raise ValueError(f"{path} is empty ({path.stat().st_size} bytes); copy or make it again.")


def encoding_message(path: Path, byte: int, size: int) -> str:
    """What to say of a byte that is not UTF-8."""
    if byte == 0:
        return f"{path} is no json: it is no text, such as a picture or weights; name the json."
    return f"{path} is not UTF-8 text: byte {byte} of {size} is wrong."


@contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """For making millions of containers without a cycle among them.

    What was made is then exempt from collection, else each one to come would visit all of it; it is
    freed by its reference count as before.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()


def _missing_message(path: Path) -> str:
    path = plain_path(path.absolute())
    message = f"Expected a json file at {path}, but there is none"
    existing = next((parent for parent in path.parents if parent.is_dir()), None)
    if existing is not None and existing != path.parent:
        return f"{message}: {existing} exists, the rest of the path does not."
    beside = sorted(entry.name for entry in path.parent.glob("*.json"))[:5]
    return f"{message}; json files in that folder: {', '.join(beside) or 'none'}."


def _malformed_message(path: Path, error: json.JSONDecodeError, size: int) -> str:
    text = error.doc.rstrip()
    if not text.lstrip().startswith(("{", "[")):  # no file of ours holds anything else
        return _other_kind_message(path, text.lstrip())
    byte = len(error.doc[: error.pos].encode("utf-8", errors="surrogatepass"))
    # A cut inside a string is reported where the string starts.
    is_cut = error.pos >= len(text) or error.msg.startswith("Unterminated string")
    is_cut = (is_cut or text[-1] not in "]}") and error.msg != "Extra data"
    end = " The file is cut short; copy or make it again." if is_cut else ""
    return (
        f"{path} is not valid json at byte {byte} of {size} (line {error.lineno}, column "
        f"{error.colno}): {error.msg}.{end}"
    )


def _other_kind_message(path: Path, text: str) -> str:
    """Of a file that is not even the beginning of an object or a list."""
    start = text.split("\n", 1)[0][:40]
    remedy = "name the json file"
    if start[:1] == "<":
        remedy = "a web page or xml, perhaps saved in its place: download the json itself"
    elif start.startswith("version https://git-lfs"):
        remedy = "a pointer of Git LFS: fetch the file itself with git lfs pull"
    return f"{path} is no json: it begins with {start!r} and not with {{ or [; {remedy}."
