"""The masks of a part of the annotations as flat arrays, each checked before C code sees it.

Symbols: a annotations, p polygons of at least three points, c their coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from .entries import Mask, RunLengths
from .polygon_texts import FlatPolygons
from .polygons import MIN_NUMBERS, has_extent
from .run_lengths import run_length_problems

#: How far from an image a coordinate may lie, in longer sides of the image.
FARTHEST_SIDES = 10
_UNKNOWN_SIDE_PX = 10_000  # of images whose size the json does not say


class MaskKind(IntEnum):
    """What the segmentation of an annotation is."""

    NONE = 0
    POLYGONS = 1
    RLE_TEXT = 2
    RLE_RUNS = 3
    #: Polygons, none of which has three points.
    DEGENERATE = 4
    #: Such that C code would crash on it or read what lies in memory; it is not kept.
    DAMAGED = 5


def build_mask_columns(
    masks: Sequence[Mask],
    polygons: FlatPolygons,
    sizes: np.ndarray,
    damages: dict[int, str],
) -> dict[str, np.ndarray]:
    """Flatten and check the segmentations of a part of the annotations.

    Args:
        masks: a of them, of which RLE are read.
        polygons: of all masks.
        sizes: (a, 2) int64 height and width of each one's image; 0 where unknown.
        damages: place in `masks` -> what is wrong with a segmentation; is added to.

    Returns:
        mask_kinds (a,), num_polygons (a,), num_coordinates (p,), has_extent (p,) bool,
        coordinates (c,) as `pack_coordinates` gives them, run_lengths uint8, num_characters (a,).
    """
    kinds = np.zeros(len(masks), np.uint8)
    columns = _polygon_columns(polygons, sizes, kinds, damages)
    columns |= _run_length_columns(masks, sizes, kinds, damages)
    kinds[list(damages)] = MaskKind.DAMAGED
    return {**columns, "mask_kinds": kinds}


def farthest_px(sizes: np.ndarray) -> np.ndarray:
    """How far from the origin a coordinate in images of these sizes may lie."""
    sides = sizes.max(axis=1)
    return FARTHEST_SIDES * np.where(sides > 0, sides, _UNKNOWN_SIDE_PX)


def pack_coordinates(coordinates: np.ndarray) -> np.ndarray:
    """Coordinates as int32 hundredths of a pixel where all are such, as COCO's and LVIS's are.

    Dividing by 100 gives back the very same float64.
    """
    hundredths = coordinates * 100
    np.rint(hundredths, out=hundredths)
    if max(hundredths.max(initial=0), -hundredths.min(initial=0)) >= 2**31:
        return coordinates
    packed = hundredths.astype(np.int32)
    return packed if np.array_equal(unpack_coordinates(packed), coordinates) else coordinates


def unpack_coordinates(packed: np.ndarray) -> np.ndarray:
    """Coordinates in float64 px."""
    return packed / 100 if packed.dtype == np.int32 else packed


def _polygon_columns(
    polygons: FlatPolygons, sizes: np.ndarray, kinds: np.ndarray, damages: dict[int, str]
) -> dict[str, np.ndarray]:
    num_given, lengths = polygons.num_polygons, polygons.lengths
    coordinates = polygons.coordinates
    owners = np.repeat(np.arange(len(kinds)), num_given)
    is_long = lengths >= MIN_NUMBERS
    if not is_long.all():
        coordinates = coordinates[np.repeat(is_long, lengths)]
        lengths, owners = lengths[is_long], owners[is_long]
    kinds[num_given > 0] = MaskKind.DEGENERATE
    kinds[owners] = MaskKind.POLYGONS
    if len(lengths):
        starts = np.cumsum(lengths) - lengths
        lowest = np.minimum.reduceat(coordinates, starts)
        highest = np.maximum.reduceat(coordinates, starts)
        limits = farthest_px(sizes)[owners]
        is_near = (lowest >= -limits) & (highest <= limits)  # False for nan
        if not is_near.all():
            _name_far_polygons(np.flatnonzero(~is_near), owners, lowest, highest, damages)
            kept = ~np.isin(owners, list(damages))
            coordinates = coordinates[np.repeat(kept, lengths)]
            lengths, owners = lengths[kept], owners[kept]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return {
        "num_polygons": np.bincount(owners, minlength=len(kinds)),
        "num_coordinates": lengths,
        "has_extent": has_extent(coordinates, offsets),
        "coordinates": pack_coordinates(coordinates),
    }


def _name_far_polygons(
    far: np.ndarray,
    owners: np.ndarray,
    lowest: np.ndarray,
    highest: np.ndarray,
    damages: dict[int, str],
) -> None:
    for polygon in far.tolist():
        found = f"{lowest[polygon]:g} to {highest[polygon]:g}"
        damages[int(owners[polygon])] = (
            f"segmentation coordinates from {found}; expected finite pixels in the image"
        )


def _run_length_columns(
    masks: Sequence[Any], sizes: np.ndarray, kinds: np.ndarray, damages: dict[int, str]
) -> dict[str, np.ndarray]:
    places = []
    if RunLengths in set(map(type, masks)):
        places = [place for place, mask in enumerate(masks) if type(mask) is RunLengths]
    texts: dict[int, bytes] = {}
    for place in places:
        problem = _size_problem(masks[place], sizes[place].tolist())
        if not problem and isinstance(masks[place].counts, list):
            problem = _runs_problem(masks[place].counts, masks[place].size)
        if problem:
            damages[place] = problem
            continue
        is_text = isinstance(masks[place].counts, str)
        kinds[place] = MaskKind.RLE_TEXT if is_text else MaskKind.RLE_RUNS
        texts[place] = masks[place].counts.encode() if is_text else _compressed(masks[place])
    num_pixels = [masks[place].size[0] * masks[place].size[1] for place in texts]
    problems = run_length_problems(
        np.frombuffer(b"".join(texts.values()), np.uint8),
        np.concatenate([[0], np.cumsum(list(map(len, texts.values())))]).astype(np.int64),
        np.array(num_pixels, np.int64),
    )
    where = list(texts)
    for index, problem in problems.items():
        damages[where[index]] = f"segmentation counts {problem}"
        del texts[where[index]]
    num_characters = np.zeros(len(masks), np.int64)
    num_characters[list(texts)] = list(map(len, texts.values()))
    return {
        "run_lengths": np.frombuffer(b"".join(texts.values()), np.uint8),
        "num_characters": num_characters,
    }


def _size_problem(mask: RunLengths, size: list[int]) -> str:
    if all(size) and list(mask.size) != size:
        return (
            f"segmentation of size {list(mask.size)}; expected the image's [height, width] {size}"
        )
    num_pixels = mask.size[0] * mask.size[1]
    if min(mask.size) < 1 or num_pixels >= 2**32:
        return f"segmentation of size {list(mask.size)}; expected [height, width] in pixels"
    return ""


def _runs_problem(runs: list[int], size: tuple[int, int]) -> str:
    num_pixels = size[0] * size[1]
    if sum(runs) == num_pixels and min(runs, default=0) >= 0:
        return ""
    return (
        f"segmentation counts whose runs sum to {sum(runs)}; expected runs of 0 or more pixels "
        f"that sum to height x width {num_pixels}"
    )


def _compressed(mask: RunLengths) -> bytes:
    import pycocotools.mask

    size = list(mask.size)
    return pycocotools.mask.frPyObjects({"size": size, "counts": mask.counts}, *size)["counts"]
