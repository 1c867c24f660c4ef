"""Reading the entries of a json list of any length, with a part of the file in memory at a time.

Text is UTF-8, UTF-16 or UTF-32, with or without a byte order mark, as for Python's json.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from balms_seg.annotations.json_file import check_is_file, check_start, encoding_message

BLOCK_BYTES = 1 << 22
BATCH_BYTES = 1 << 22
_MARK_BYTES = {"utf-8-sig": 3, "utf-16": 2, "utf-32": 4}  # by encodings with a byte order mark
# Where an entry, an object, begins behind another one; looked for from the end of a block.
_LONGEST_GAP = 1 << 10
_MOST_TRIES = 1 << 10
_BETWEEN_OBJECTS = re.compile(rb"\}[ \t\n\r]*,[ \t\n\r]*\Z")
_SPACE = re.compile(r"[ \t\n\r]*")
_SLOW_BATCH = 10_000
_LONGEST_TOKEN = 16  # of names, exponents and escapes, which a cut makes look like something else


def is_json_list(path: str | Path) -> bool:
    """Whether a file begins as a json list does; the same errors as `iterate_json_list`."""
    path = check_is_file(path)
    with path.open("rb") as file:
        start = file.read(BLOCK_BYTES)
    check_start(path, start)
    text = codecs.getincrementaldecoder(json.detect_encoding(start))("replace").decode(start)
    return text.lstrip(" \t\n\r")[:1] == "["


def iterate_json_batches(
    path: str | Path, decode: Callable[[bytes], list[Any]]
) -> Iterator[list[Any]]:
    """The entries of a file that holds a json list, in batches and fast; the same errors.

    The file is cut where an object ends and another begins. What cannot be decoded so, and whatever
    `decode` refuses, is read entry by entry instead, and passed on as Python's json has it.

    Args:
        path: of the file.
        decode: makes the entries of a json list; raises ValueError where it cannot.
    """
    path = Path(path).expanduser()
    if not is_json_list(path):
        raise ValueError(f"Expected a json list in {path}, but it begins with something else.")
    num_passed = 0
    with path.open("rb") as file:
        for block in _blocks_of_objects(file):
            try:
                batch = decode(block)
            except (ValueError, RecursionError):
                break
            num_passed += len(batch)
            yield batch
        else:
            return
    entries = islice(iterate_json_list(path), num_passed, None)
    while batch := list(islice(entries, _SLOW_BATCH)):
        yield batch


def _blocks_of_objects(file: BinaryIO) -> Iterator[bytes]:
    """Parts of a list in UTF-8, each a list of its own where the file holds one of objects."""
    rest = file.read(BATCH_BYTES)
    while more := file.read(BATCH_BYTES):
        gap = _last_gap(rest)
        if gap is None:
            yield b""  # which nobody can decode
            return
        cut, start = gap
        yield rest[:cut] + b"]"
        rest = b"[" + rest[start:] + more
    yield rest


def _last_gap(block: bytes) -> tuple[int, int] | None:
    """Where the last object but one ends and the last begins."""
    start = len(block)
    for _ in range(_MOST_TRIES):
        start = block.rfind(b"{", 0, start)
        if start < 0:
            break
        offset = max(0, start - _LONGEST_GAP)
        gap = _BETWEEN_OBJECTS.search(block[offset:start])
        if gap:
            return offset + gap.start() + 1, start
    return None


def iterate_json_list(path: str | Path) -> Iterator[Any]:
    """The entries of a file that holds a json list, one by one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is compressed, empty, not a list, or, once the entries before have been
            passed on: cut short, not UTF-8 or not json; the message has the byte.
    """
    path = Path(path).expanduser()
    if not is_json_list(path):
        raise ValueError(f"Expected a json list in {path}, but it begins with something else.")
    decode = json.JSONDecoder().raw_decode
    with path.open("rb") as file:
        text = _SlidingText(path, file)
        text.pass_over("[")
        while text.next_character() != "]":
            yield text.take(decode)
            if text.next_character() != "]":
                text.pass_over(",")
                if text.next_character() == "]":
                    text.fail("Illegal trailing comma before end of array")
        text.pass_over("]")
        if text.next_character():
            text.fail("Extra data")


class _SlidingText:
    """The part of a file that is being read."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._size = path.stat().st_size
        encoding = json.detect_encoding(file.read(4))
        file.seek(0)
        self._decoder = codecs.getincrementaldecoder(encoding)()
        width = encoding[:6]
        self._codec = f"{width}-le" if width in _MARK_BYTES else "utf-8"  # for counting bytes
        self._text = ""
        self._at = 0  # place in the text
        self._bytes_before = _MARK_BYTES.get(encoding, 0)
        self._has_more = True

    def next_character(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text) or not self._read_more():
                return self._text[self._at : self._at + 1]

    def pass_over(self, character: str) -> None:
        """Go on behind a character that has to come next."""
        if self.next_character() != character:
            self.fail(f"Expecting '{character}'")
        self._at += 1

    def take(self, decode: Any) -> Any:
        """The value that comes next."""
        while True:
            try:
                value, end = decode(self._text, self._at)
            except json.JSONDecodeError as error:
                may_be_cut = (
                    error.msg.startswith("Unterminated string")
                    or len(self._text) - error.pos < _LONGEST_TOKEN
                )
                if not (may_be_cut and self._read_more()):
                    self._at = error.pos
                    self.fail(error.msg, is_cut=may_be_cut)
            except RecursionError:
                self.fail("Values are nested too deep")
            else:
                # A number near the end of what was read may go on.
                if len(self._text) - end >= _LONGEST_TOKEN or not self._read_more():
                    self._at = end
                    return value

    def fail(self, message: str, *, is_cut: bool = False) -> NoReturn:
        """Say what is wrong at this place."""
        byte = self._bytes_before + len(self._text[: self._at].encode(self._codec, "surrogatepass"))
        is_cut = is_cut or self._at >= len(self._text)
        end = " The file is cut short; copy or make it again." if is_cut else ""
        raise ValueError(
            f"{self._path} is not valid json at byte {byte} of {self._size}: {message}.{end}"
        )

    def _read_more(self) -> bool:
        """Drop what has been passed over, and read at least as much as is left.

        At the end of the file nothing is dropped: places in the text stay as they are.
        """
        if not self._has_more:
            return False
        block = self._file.read(max(BLOCK_BYTES, len(self._text) - self._at))
        self._has_more = bool(block)
        if block:
            self._bytes_before += len(self._text[: self._at].encode(self._codec, "surrogatepass"))
            self._text, self._at = self._text[self._at :], 0
        try:
            self._text += self._decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            byte = (
                self._bytes_before
                + len(self._text.encode(self._codec, "surrogatepass"))
                + error.start
            )
            raise ValueError(encoding_message(self._path, byte, self._size)) from error
        return self._has_more
