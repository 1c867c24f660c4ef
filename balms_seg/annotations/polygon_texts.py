"""Polygons of many masks as flat arrays, straight from their text where it is plain.

A json's numbers are nearly all of them coordinates. Making Python objects of them would take most
of the time and memory of reading; simdjson writes them into one array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import simdjson

_OPEN, _CLOSE, _COMMA = b"[],"
_POLYGON_DEPTH = 3  # brackets around a coordinate: of all masks, of a mask, of a polygon
_parser = simdjson.Parser()


@dataclass(frozen=True, eq=False)
class FlatPolygons:
    """Polygons of a masks, those of no mask among them.

    Attributes:
        num_polygons: (a,) int64, of each mask.
        lengths: (p,) int64, coordinates of each polygon.
        coordinates: (c,) float64.
    """

    num_polygons: np.ndarray
    lengths: np.ndarray
    coordinates: np.ndarray

    @classmethod
    def of(cls, masks: Sequence[Any]) -> FlatPolygons:
        """From lists of polygons; what is no list has none."""
        per_mask = [mask if type(mask) is list else () for mask in masks]
        polygons = list(chain.from_iterable(per_mask))
        lengths = np.fromiter(map(len, polygons), np.int64, len(polygons))
        return cls(
            num_polygons=np.fromiter(map(len, per_mask), np.int64, len(masks)),
            lengths=lengths,
            coordinates=np.fromiter(chain.from_iterable(polygons), np.float64, int(lengths.sum())),
        )


def parse_polygons(texts: Sequence[msgspec.Raw | bytes]) -> FlatPolygons | None:
    """Read masks written as lists of polygons.

    Args:
        texts: json text of each mask; b"[]" for none.

    Returns:
        None where one of them is anything else, or has a polygon of fewer than three numbers,
        which may be a point.
    """
    text = b"[%b]" % b",".join(texts)
    try:
        array: Any = _parser.parse(text)
        coordinates = np.frombuffer(array.as_buffer(of_type="d"))
    except (TypeError, ValueError, RuntimeError):  # simdjson's, by what is wrong
        return None
    characters = np.frombuffer(text, np.uint8)
    # Between numbers nothing else looks like a bracket once two bits are set.
    is_mark = (characters | _OPEN ^ _CLOSE) == _OPEN | _CLOSE
    is_mark |= characters == _COMMA
    marks = characters[np.flatnonzero(is_mark)]
    brackets = np.flatnonzero(marks != _COMMA)
    steps = np.where(marks[brackets] == _OPEN, 1, -1)
    depths = np.cumsum(steps)
    begins_mask = (steps == 1) & (depths == _POLYGON_DEPTH - 1)
    begins_polygon = np.flatnonzero((steps == 1) & (depths == _POLYGON_DEPTH))
    if depths.max() > _POLYGON_DEPTH or begins_mask.sum() != len(texts):
        return None
    # Nothing is nested in a polygon, so that the next bracket ends it, and commas lie between.
    lengths = brackets[begins_polygon + 1] - brackets[begins_polygon]
    if lengths.min(initial=3) < 3 or lengths.sum() != len(coordinates):
        return None
    owners = np.cumsum(begins_mask)[begins_polygon] - 1
    return FlatPolygons(np.bincount(owners, minlength=len(texts)), lengths, coordinates)
