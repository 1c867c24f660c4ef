"""The lists of a COCO- or LVIS-style json, each entry still as text, so that parts can be decoded.

The file is mapped into memory, not read: its pages count for nobody once they are not needed.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .entries import Source, parse_unique, unique_keys
from .errors import AnnotationError, shown
from .json_file import check_is_file, paused_garbage_collection, read_json

NAMES = ("images", "annotations", "categories")


@dataclass(frozen=True)
class Sections:
    """The lists of a json; `annotations` is None where the json has no such list."""

    images: Sequence[Source]
    annotations: Sequence[Source] | None
    categories: Sequence[Source]
    text: mmap.mmap | None = None

    def release(self) -> None:
        """Give back the memory of the file's pages; they are read again if they are needed."""
        if self.text is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.text.madvise(mmap.MADV_DONTNEED)


class _Lists(msgspec.Struct):
    images: list[msgspec.Raw] | None = None
    annotations: list[msgspec.Raw] | None = None
    categories: list[msgspec.Raw] | None = None


def read_sections(path: Path) -> Sections:
    """Find the lists in a file.

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: it is no json, or lacks images or categories.
    """
    try:
        path = check_is_file(path)
        if not path.stat().st_size:
            read_json(path)  # says that it is empty
    except ValueError as error:
        raise AnnotationError(str(error)) from None
    with path.open("rb") as file, paused_garbage_collection():
        text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            lists = msgspec.json.decode(text, type=_Lists)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return sections_of(_read_whole(path), str(path))
    outline = _outline(text, lists)
    content = parse_unique(outline, str(path))
    content = {**content, **{name: getattr(lists, name) for name in NAMES if name in content}}
    return replace(sections_of(content, str(path)), text=text)


def sections_of(content: Any, name: str) -> Sections:
    """The lists of a json's content; `name` is what to call it in errors.

    Raises:
        AnnotationError: images or categories are missing, one of the three is no list, or there is
            no category.
    """
    if not isinstance(content, Mapping):
        raise AnnotationError(
            f"{name} holds a {type(content).__name__}, expected an object with images, annotations "
            "and categories. A list is usually a file of results."
        )
    given: dict[str, Any] = {section: content.get(section) for section in NAMES}
    wrong = [
        section
        for section, value in given.items()
        if not isinstance(value, list | tuple) and not (value is None and section == "annotations")
    ]
    if wrong:
        got = [f"{section} is {shown(given[section])}" for section in wrong if given[section]]
        raise AnnotationError(
            f"{name} has no list named {' and none named '.join(wrong)}; expected images, "
            f"annotations and categories, got {', '.join(sorted(map(str, content))) or 'nothing'}"
            f"{''.join(f'; {text}' for text in got)}."
        )
    if not given["categories"]:
        raise AnnotationError(f"The list of categories in {name} is empty.")
    return Sections(**given)


def _read_whole(path: Path) -> Any:
    """The content by Python's own reader, which takes NaN and says what is wrong with the rest."""
    try:
        return read_json(path, object_pairs_hook=unique_keys(str(path)))
    except ValueError as error:
        raise AnnotationError(str(error)) from error


def _outline(text: mmap.mmap, lists: _Lists) -> bytes:
    """The json without the entries of its lists, to see its keys."""
    view = np.frombuffer(text, np.uint8)
    base = _address(view)
    spans = []
    for name in NAMES:
        entries = getattr(lists, name)
        if entries:
            last = np.frombuffer(entries[-1], np.uint8)
            start = _address(np.frombuffer(entries[0], np.uint8)) - base
            spans.append((start, _address(last) - base + len(last)))
    pieces, end = [], 0
    for start, stop in sorted(spans):
        pieces.append(view[end:start].tobytes())
        end = stop
    return b"".join([*pieces, view[end:].tobytes()])


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
