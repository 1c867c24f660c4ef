"""Taking the values that the world writes for the fields of an entry; all that is not obvious.

A value is taken where it can mean one thing only; else `FieldError` says what was expected. None
and an empty list stand for an absent field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from balms_seg.decoding import MAX_PIXELS

from .errors import FieldError

_LARGEST_ID = 2**63 - 1
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.0)?")


def canonical_id(value: Any, field: str = "id") -> int | str:
    """An id as an integer, or as text where it is no numeral.

    `7`, `7.0`, `"7"` and `"7.0"` are the same id; `"007"` and `"c7"` are text.
    """
    if type(value) is int and -_LARGEST_ID <= value <= _LARGEST_ID:
        return value
    if isinstance(value, str):
        if not _INTEGER.fullmatch(value):
            return value
        value = int(value.removesuffix(".0"))
    is_integer = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not is_integer or abs(int(value)) > _LARGEST_ID:
        raise FieldError(field, "an integer of at most 64 bits, or text", value)
    return int(value)


def number(value: Any, field: str) -> float:
    """A number, or a numeral as text; nan and infinite ones are passed on."""
    if type(value) is float:  # as nearly all are; asking for a kind of number takes long
        return value
    is_text = isinstance(value, str)
    if isinstance(value, bool) or not (isinstance(value, Real) or is_text):
        raise FieldError(field, "a number", value)
    try:
        if is_text and "_" in value:  # which Python takes between digits, and no other program
            raise ValueError
        return float(value)
    except (ValueError, OverflowError):
        raise FieldError(field, "a number", value) from None


def optional_number(value: Any, field: str) -> float | None:
    """The same; None for an absent one."""
    return None if is_absent(value) else number(value, field)


def length_px(value: Any, field: str) -> int:
    """An image's height or width in px; 0 where it is absent."""
    if type(value) is int and 0 <= value < 2**31:
        return value
    if is_absent(value):
        return 0
    length = number(value, field)
    if not (math.isfinite(length) and length == int(length) and 0 <= length < 2**31):
        raise FieldError(field, "a whole number of pixels", value)
    return int(length)


def image_size(height: Any, width: Any) -> tuple[int, int]:
    """An image's height and width in px; 0 where they are absent.

    A mask is as large as its image says, so a size beyond those that are decoded is refused.
    """
    size = length_px(height, "height"), length_px(width, "width")
    if size[0] * size[1] > MAX_PIXELS:
        raise FieldError("height x width", f"an image of at most {MAX_PIXELS:,} pixels", list(size))
    return size


def count(value: Any, field: str) -> int:
    """A whole number of images or instances."""
    counted = number(value, field)
    if not (math.isfinite(counted) and counted >= 0 and counted == int(counted)):
        raise FieldError(field, "a whole number", value)
    return int(counted)


def flag(value: Any, field: str) -> int:
    """0 or 1; absent is 0."""
    if is_absent(value):
        return 0
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return int(value.lower() == "true")
    try:
        return {0.0: 0, 1.0: 1}[number(value, field)]
    except (FieldError, KeyError):
        raise FieldError(field, "0 or 1", value) from None


def text(value: Any, field: str) -> str:
    """Text; empty where it is absent."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise FieldError(field, "text", value)
    return value


def box(value: Any) -> tuple[float, float, float, float] | None:
    """A box as x, y, width, height; None where it is absent."""
    if type(value) is list and len(value) == 4 and _are_floats(value) and math.isfinite(sum(value)):
        return tuple(value)  # as nearly all are
    if is_absent(value):
        return None
    if isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], list | tuple):
        value = value[0]
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise FieldError("bbox", "[x, y, width, height] in pixels", value)
    if all(entry is None for entry in value):
        return None
    x, y, width, height = (number(entry, "bbox") for entry in value)
    if not all(map(math.isfinite, (x, y, width, height))):
        raise FieldError("bbox", "finite numbers", value)
    return x, y, width, height


def id_list(value: Any, field: str) -> list[int | str] | None:
    """A list of ids, such as LVIS's; None where it is absent. An empty list says "none"."""
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise FieldError(field, "a list of category ids", value)
    if set(map(type, value)) == {int} and -_LARGEST_ID <= min(value) <= max(value) <= _LARGEST_ID:
        return list(value)  # as nearly all are
    return [canonical_id(entry, field) for entry in value]


def segmentation(value: Any) -> list[list[float]] | dict[str, Any] | None:
    """Polygons as lists x0, y0, x1, y1, ..., or RLE as `size` and `counts`; None where absent.

    One flat polygon, a ring of points and a list of rings are taken as polygons, RLE in a list of
    its own as RLE.
    """
    if type(value) is list and value and all(map(_is_plain_polygon, value)):
        return value
    if is_absent(value):
        return None
    if isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], Mapping):
        value = value[0]
    if isinstance(value, Mapping):
        return _rle(value)
    if not isinstance(value, list | tuple):
        raise FieldError("segmentation", "polygons or RLE", value)
    if any(isinstance(one, Mapping) for one in value):
        raise FieldError("segmentation", "polygons, or one RLE", value)
    if not isinstance(value[0], list | tuple):
        return [_polygon(value)]
    if _is_ring(value):
        return [_polygon([coordinate for point in value for coordinate in point])]
    return [
        _polygon([c for point in ring for c in point] if _is_ring(ring) else ring) for ring in value
    ]


def _are_floats(values: list[Any]) -> bool:
    return set(map(type, values)) == {float}


def _is_plain_polygon(value: Any) -> bool:
    """Whether it is a list of numbers that can be no point."""
    return type(value) is list and len(value) > 2 and _are_floats(value)


def _is_ring(value: Any) -> bool:
    """Whether it is a list of at least three points."""
    return (
        isinstance(value, list | tuple)
        and len(value) > 2
        and all(isinstance(point, list | tuple) and len(point) == 2 for point in value)
        and not any(isinstance(coordinate, list | tuple) for point in value for coordinate in point)
    )


def _polygon(value: Any) -> list[float]:
    if not isinstance(value, list | tuple):
        raise FieldError("segmentation", "polygons as lists x0, y0, x1, y1, ...", value)
    return [number(coordinate, "segmentation") for coordinate in value]


def _rle(value: Mapping[str, Any]) -> dict[str, Any]:
    size, counts = value.get("size"), value.get("counts")
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise FieldError("segmentation size", "RLE with size [height, width]", size)
    if isinstance(counts, list | tuple):
        counts = [_run(run) for run in counts]
    elif isinstance(counts, bytes):
        counts = counts.decode("ascii", errors="replace")
    elif not isinstance(counts, str) or not counts:
        raise FieldError("segmentation counts", "RLE with counts as text or a list of runs", counts)
    return {"size": [length_px(side, "segmentation") for side in size], "counts": counts}


def _run(value: Any) -> int:
    length = number(value, "segmentation")
    if not (math.isfinite(length) and length == int(length) and 0 <= length < 2**32):
        raise FieldError("segmentation counts", "runs of 0 or more pixels", value)
    return int(length)


def is_absent(value: Any) -> bool:
    """Whether a value says that the field is unknown."""
    return value is None or (isinstance(value, list | tuple) and not value)
