"""The annotations of a json decoded: fast where they are as the formats say, else by `fields`.

The fast way does not see a key that is written twice. Hence quotation marks are counted: where
there are more of them than the fields explain, the keys are looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec
import numpy as np

from . import fields
from .errors import AnnotationError, FieldError, shown
from .polygon_texts import FlatPolygons, parse_polygons

#: The text of an entry (msgspec.Raw), or its content (a mapping) where all was decoded.
Source: TypeAlias = Any


class RunLengths(msgspec.Struct, gc=False):
    """RLE as a json has it: `counts` compressed, as text, or as a list of runs."""

    size: tuple[int, int]
    counts: str | list[int]


class AnnotationEntry(msgspec.Struct, gc=False):
    """An annotation as a json has it; None where a field is absent.

    The segmentation is first its text, then polygons or RLE; polygons stay text where they are read
    together with those of other annotations.
    """

    id: int | str | None = None
    image_id: int | str | None = None
    category_id: int | str | None = None
    bbox: tuple[float, float, float, float] | None = None
    area: float | None = None
    segmentation: msgspec.Raw = cast(msgspec.Raw, None)  # msgspec takes no text that may be absent
    iscrowd: int | None = None
    ignore: int | None = None


#: Polygons as text or lists, or RLE; None where there is no segmentation.
Mask: TypeAlias = msgspec.Raw | bytes | list[list[float]] | RunLengths | None


class AnnotationFields(NamedTuple):
    """The fields of a part of the annotations, one tuple each; None where one is absent."""

    id: tuple[int | str | None, ...]
    image_id: tuple[int | str | None, ...]
    category_id: tuple[int | str | None, ...]
    bbox: tuple[tuple[float, float, float, float] | None, ...]
    area: tuple[float | None, ...]
    segmentation: tuple[Mask, ...]
    iscrowd: tuple[int | None, ...]
    ignore: tuple[int | None, ...]

    @classmethod
    def of(cls, entries: Sequence[AnnotationEntry]) -> AnnotationFields:
        """The entries' fields."""
        columns = (
            zip(*map(msgspec.structs.astuple, entries), strict=True)
            if entries
            else [()] * len(cls._fields)
        )
        return cls(*columns)


_decode_plain = msgspec.json.Decoder(AnnotationEntry).decode
_decode_run_lengths = msgspec.json.Decoder(RunLengths | None).decode
_decode_lists = msgspec.json.Decoder(list[list[float]]).decode
_decode_values = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_FLAGS = {None, 0, 1}
_NOT_PLAIN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError)


class DecodedAnnotations(NamedTuple):
    """A part of the annotations.

    Attributes:
        fields: of each.
        polygons: of the segmentations, which are not lists then.
        damages: place in the part -> what is wrong with the segmentation, which is None there.
    """

    fields: AnnotationFields
    polygons: FlatPolygons
    damages: dict[int, str]


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
    return _decode_together(sources) or _decode_one_by_one(sources, first=first, path=path)


def _decode_together(sources: Sequence[Source]) -> DecodedAnnotations | None:
    """Annotations all of which are as the formats say; None where one may not be."""
    try:
        columns = AnnotationFields.of(list(map(_decode_plain, sources)))
        raw: Any = columns.segmentation
        polygons = None if None in raw else parse_polygons(raw)
        if polygons is None:  # there are RLE, or annotations without a mask
            masks = tuple(map(_decode_mask, raw))
            columns = columns._replace(segmentation=masks)
            polygons = parse_polygons([mask if type(mask) is bytes else b"[]" for mask in masks])
    except _NOT_PLAIN:
        return None
    if polygons is None or not {*columns.iscrowd, *columns.ignore} <= _FLAGS:
        return None
    if _num_quotes(sources) != _explained_quotes(columns):
        return None
    return DecodedAnnotations(columns, polygons, {})


def _decode_one_by_one(
    sources: Sequence[Source], *, first: int, path: object
) -> DecodedAnnotations:
    entries = [_decode_plainly(source) for source in sources]
    damages: dict[int, str] = {}
    for place, (entry, source) in enumerate(zip(entries, sources, strict=True)):
        if entry is not None and _has_distinct_keys(source, entry):
            if type(entry.segmentation) is not bytes:
                continue
            entry.segmentation = _decode_polygons(entry.segmentation)
            if entry.segmentation is not None:
                continue
        content = content_of(source, f"Annotation at place {first + place} of {path}")
        try:
            entries[place], damage = _decode_leniently(content)
        except FieldError as error:
            name = entry_name(content.get("id"), first + place)
            if isinstance(content.get("image_id"), int | str):
                name += f" of image {content['image_id']}"
            raise AnnotationError(f"Annotation {name} in {path} has {error}.") from None
        if damage:
            damages[place] = damage
    columns = AnnotationFields.of(entries)
    return DecodedAnnotations(columns, FlatPolygons.of(columns.segmentation), damages)


def polygons_of(mask: msgspec.Raw | bytes | list[list[float]]) -> list[list[float]]:
    """A mask's polygons as lists."""
    return mask if isinstance(mask, list) else msgspec.json.decode(mask)


def content_of(source: Source, name: str) -> Mapping[str, Any]:
    """An entry as a mapping; AnnotationError where it is none or repeats a key."""
    is_text = isinstance(source, msgspec.Raw)
    content = _parse_entry(bytes(source), name) if is_text else source
    if not isinstance(content, Mapping):
        raise AnnotationError(f"{name} is {shown(content)}; expected an object with fields.")
    return content


def _parse_entry(text: bytes, name: str) -> Any:
    """As `parse_unique`, and fast where the quotation marks say that no key comes twice."""
    try:
        content = msgspec.json.decode(text)
    except _NOT_PLAIN:
        return parse_unique(text, name)
    if isinstance(content, dict):
        num_texts = list(map(type, content.values())).count(str)
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


def _decode_plainly(source: Source) -> Any:
    """An annotation that is as the formats say, its polygons as text; None for all others."""
    try:
        entry: Any = _decode_plain(source)
        entry.segmentation = _decode_mask(entry.segmentation)
    except _NOT_PLAIN:
        return None
    return entry if entry.iscrowd in _FLAGS and entry.ignore in _FLAGS else None


def _decode_mask(raw: msgspec.Raw | None) -> bytes | RunLengths | None:
    """Polygons, which stay text, or RLE."""
    if raw is None:
        return None
    text = bytes(raw)
    return text if text.startswith(b"[") else _decode_run_lengths(text)


def _decode_polygons(text: bytes) -> list[list[float]] | None:
    """Polygons as the formats say; None for anything else, as short ones may be points."""
    try:
        polygons = _decode_lists(text)
    except msgspec.DecodeError:
        return None
    return polygons if min(map(len, polygons), default=3) > 2 else None


def _num_quotes(sources: Sequence[msgspec.Raw]) -> int:
    return int(np.count_nonzero(np.frombuffer(b"".join(sources), np.uint8) == ord('"')))


def _explained_quotes(columns: AnnotationFields) -> int:
    """Quotation marks in the text of annotations that have these fields, none of them null."""
    types = [set(map(type, column)) for column in columns]
    absent = sum(
        column.count(None) for column, own in zip(columns, types, strict=True) if type(None) in own
    )
    num_texts = sum(
        list(map(type, column)).count(str)
        for column, own in zip(columns[:3], types, strict=False)
        if str in own
    )
    quotes = 2 * (sum(map(len, columns)) - absent + num_texts)
    if RunLengths in types[AnnotationFields._fields.index("segmentation")]:
        quotes += sum(map(_quotes_of_mask, columns.segmentation))
    return quotes


def _quotes_of_mask(segmentation: Any) -> int:
    if type(segmentation) is not RunLengths:
        return 0
    return 6 if type(segmentation.counts) is str else 4


def _has_distinct_keys(source: Source, entry: Any) -> bool:
    try:
        values = _decode_values(source)
    except _NOT_PLAIN:  # of keys that nobody reads
        return False
    inside = {key: bytes(value).count(b'"') for key, value in values.items()}
    if bytes(source).count(b'"') != 2 * len(values) + sum(inside.values()):
        return False
    return inside.get("segmentation", 0) == _quotes_of_mask(entry.segmentation)


def _decode_leniently(content: Mapping[str, Any]) -> tuple[Any, str]:
    """An annotation whatever its fields look like, and what is wrong with its segmentation."""
    entry: Any = AnnotationEntry(
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
