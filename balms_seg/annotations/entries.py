"""The annotations of a json decoded: fast where they are as the formats say, else by `fields`.

The fast way does not see a key that is written twice. Hence quotation marks are counted: where
there are more of them than the fields explain, the keys are looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from types import NoneType
from typing import Any, TypeAlias

import msgspec

from . import fields
from .errors import AnnotationError, FieldError, shown

#: The text of an entry (msgspec.Raw), or its content (a mapping) where all was decoded.
Source: TypeAlias = Any


class RunLengths(msgspec.Struct, gc=False):
    """RLE as a json has it: `counts` compressed, as text, or as a list of runs."""

    size: tuple[int, int]
    counts: str | list[int]


class AnnotationEntry(msgspec.Struct, gc=False):
    """An annotation as a json has it; None where a field is absent."""

    id: int | str | None = None
    image_id: int | str | None = None
    category_id: int | str | None = None
    bbox: tuple[float, float, float, float] | None = None
    area: float | None = None
    segmentation: list[list[float]] | RunLengths | None = None
    iscrowd: int | None = None
    ignore: int | None = None


@dataclass(frozen=True)
class DecodedAnnotations:
    """A part of the list.

    Attributes:
        entries: the annotations.
        damages: place in `entries` -> what is wrong with the segmentation, which is None there.
    """

    entries: list[AnnotationEntry]
    damages: dict[int, str]


_decode_plain = msgspec.json.Decoder(AnnotationEntry).decode
_decode_values = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_all_fields = attrgetter(*AnnotationEntry.__struct_fields__)
_FLAGS = (None, 0, 1)


def decode_annotations(
    sources: Sequence[Source], *, first: int, path: object
) -> DecodedAnnotations:
    """Decode a part of a json's list of annotations.

    Args:
        sources: the annotations.
        first: place of the first one in the whole list, for errors.
        path: the json's name, for errors.

    Raises:
        AnnotationError: a field other than the segmentation cannot be taken.
    """
    plain = [_decode_plainly(source) for source in sources]
    _drop_doubtful(plain, sources)
    entries, damages = [], {}
    for place, entry in enumerate(plain):
        if entry is None:
            content = content_of(sources[place], f"Annotation at place {first + place} of {path}")
            try:
                entry, damage = _decode_leniently(content)
            except FieldError as error:
                name = entry_name(content.get("id"), first + place)
                if isinstance(content.get("image_id"), int | str):
                    name += f" of image {content['image_id']}"
                raise AnnotationError(f"Annotation {name} in {path} has {error}.") from None
            if damage:
                damages[place] = damage
        entries.append(entry)
    return DecodedAnnotations(entries, damages)


def content_of(source: Source, name: str) -> Mapping[str, Any]:
    """An entry as a mapping; AnnotationError where it is none or repeats a key."""
    content = source if isinstance(source, Mapping) else _parse_entry(bytes(source), name)
    if not isinstance(content, Mapping):
        raise AnnotationError(f"{name} is {shown(content)}; expected an object with fields.")
    return content


def _parse_entry(text: bytes, name: str) -> Any:
    """As `parse_unique`, and fast where the quotation marks say that no key comes twice."""
    try:
        content = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return parse_unique(text, name)
    if isinstance(content, dict):
        num_texts = sum(type(value) is str for value in content.values())
        if text.count(b'"') == 2 * (len(content) + num_texts):
            return content
    return parse_unique(text, name)


def parse_unique(text: bytes, name: str) -> Any:
    """The content of a json text; AnnotationError where an object has a key twice."""
    try:
        return json.loads(text, object_pairs_hook=unique_keys(name))
    except AnnotationError:
        raise
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{name} is not valid json: {error}.") from None


def unique_keys(name: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """A hook of Python's json reader that raises AnnotationError where a key comes twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            keys = [key for key, _ in pairs]
            key = next(key for key in keys if keys.count(key) > 1)
            raise AnnotationError(f"{name} has the key {key!r} more than once; keep one of them.")
        return content

    return unique


def entry_name(entry_id: Any, place: int) -> str:
    """What to call an entry in an error."""
    return f"at place {place}" if entry_id is None else shown(entry_id).strip("'")


def _decode_plainly(source: Source) -> AnnotationEntry | None:
    """An annotation that is as the formats say; None for all others."""
    try:
        entry = _decode_plain(source)
    except (msgspec.DecodeError, TypeError):
        return None
    polygons = entry.segmentation
    # Short polygons may be points of a ring.
    is_plain = type(polygons) is not list or min(map(len, polygons), default=4) > 2
    return entry if is_plain and entry.iscrowd in _FLAGS and entry.ignore in _FLAGS else None


def _drop_doubtful(entries: list[AnnotationEntry | None], sources: Sequence[Source]) -> None:
    """Put None for each entry that may have a key twice."""
    plain = {place: entry for place, entry in enumerate(entries) if entry is not None}
    num_quotes = b"".join([sources[place] for place in plain]).count(b'"')
    if num_quotes == _explained_quotes(list(plain.values())):
        return
    for place, entry in plain.items():
        if not _has_distinct_keys(sources[place], entry):
            entries[place] = None


def _explained_quotes(entries: Sequence[AnnotationEntry]) -> int:
    """Quotation marks in the text of annotations that have these fields, none of them null."""
    values = list(chain.from_iterable(map(_all_fields, entries)))
    types = list(map(type, values))
    num_keys = len(types) - types.count(NoneType)
    quotes = 2 * (num_keys + types.count(str))
    if RunLengths in types:
        quotes += sum(_quotes_of_mask(entry.segmentation) for entry in entries)
    return quotes


def _quotes_of_mask(segmentation: Any) -> int:
    if type(segmentation) is not RunLengths:
        return 0
    return 6 if type(segmentation.counts) is str else 4


def _has_distinct_keys(source: Source, entry: AnnotationEntry) -> bool:
    values = _decode_values(source)
    inside = {key: bytes(value).count(b'"') for key, value in values.items()}
    if bytes(source).count(b'"') != 2 * len(values) + sum(inside.values()):
        return False
    return inside.get("segmentation", 0) == _quotes_of_mask(entry.segmentation)


def _decode_leniently(content: Mapping[str, Any]) -> tuple[AnnotationEntry, str]:
    """An annotation whatever its fields look like, and what is wrong with its segmentation."""
    entry = AnnotationEntry(
        id=_optional_id(content, "id"),
        image_id=_optional_id(content, "image_id"),
        category_id=_optional_id(content, "category_id"),
        bbox=fields.box(content.get("bbox")),
        area=fields.optional_number(content.get("area"), "area"),
        iscrowd=fields.flag(content["iscrowd"], "iscrowd") if "iscrowd" in content else None,
        ignore=fields.flag(content.get("ignore"), "ignore"),
    )
    try:
        mask = fields.segmentation(content.get("segmentation"))
    except FieldError as error:
        return entry, str(error)
    entry.segmentation = RunLengths(**mask) if isinstance(mask, dict) else mask
    return entry, ""


def _optional_id(content: Mapping[str, Any], field: str) -> int | str | None:
    value = content.get(field)
    return None if value is None else fields.canonical_id(value, field)
