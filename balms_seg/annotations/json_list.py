"""Reading the entries of a json list of any length, with a part of the file in memory at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from balms_seg.annotations.json_file import check_is_file, check_start, encoding_message

BLOCK_BYTES = 1 << 22
_SPACE = re.compile(r"[ \t\n\r]*")
_LONGEST_TOKEN = 16  # of names, exponents and escapes, which a cut makes look like something else


def is_json_list(path: str | Path) -> bool:
    """Whether a file begins as a json list does; the same errors as `iterate_json_list`."""
    path = check_is_file(path)
    with path.open("rb") as file:
        start = file.read(BLOCK_BYTES)
    check_start(path, start)
    return start.lstrip()[:1] == b"["


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
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0  # place in the text
        self._bytes_before = 0  # of the file, before the text
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
            else:
                # A number near the end of what was read may go on.
                if len(self._text) - end >= _LONGEST_TOKEN or not self._read_more():
                    self._at = end
                    return value

    def fail(self, message: str, *, is_cut: bool = False) -> NoReturn:
        """Say what is wrong at this place."""
        byte = self._bytes_before + len(self._text[: self._at].encode())
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
            self._bytes_before += len(self._text[: self._at].encode())
            self._text, self._at = self._text[self._at :], 0
        try:
            self._text += self._decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            byte = self._bytes_before + len(self._text.encode()) + error.start
            raise ValueError(encoding_message(self._path, byte, self._size)) from error
        return self._has_more
