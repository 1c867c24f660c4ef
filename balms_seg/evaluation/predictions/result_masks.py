"""The masks of detections, checked as those of annotations are, and packed into one column.

Nothing reaches C code before it was checked: a damaged RLE makes pycocotools crash, wait for ever
or read what lies in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
import pycocotools.mask as mask_utils

from balms_seg.annotations import fields
from balms_seg.annotations.errors import FieldError
from balms_seg.annotations.mask_columns import farthest_px
from balms_seg.annotations.run_lengths import run_length_problems
from balms_seg.evaluation.lvis.detection_table import MaskColumn

_COUNTS_AND_SIZE = itemgetter("counts", "size")
_MIN_NUMBERS = 6  # of a polygon with three points
#: What is drawn once its image is known: runs, or polygons. Arrays take a quarter of lists' memory.
Drawing: TypeAlias = array | list[array]


class MaskBuilder:
    """Masks taken in so far; polygons wait for the sizes of their images."""

    def __init__(self) -> None:
        self._number = 0
        self._counts: list[bytes] = []  # of each batch, joined
        self._lengths: list[np.ndarray] = []
        self._sizes: list[np.ndarray] = []
        self._drawings: dict[int, Drawing] = {}

    def add(self, segmentations: Sequence[Any]) -> None:
        """Take in the `segmentation` of each of a batch of detections; None for none.

        Raises:
            BadMask: one has no form that a mask can have.
        """
        texts: Sequence[str | bytes]
        joined, texts, sizes = _texts_of(segmentations)
        if joined is None:
            sizes = np.zeros((len(segmentations), 2), np.int64)
            taken = [self._take(value, at, sizes) for at, value in enumerate(segmentations)]
            joined, texts = b"".join(taken), taken
        self._counts.append(joined)
        self._lengths.append(np.fromiter(map(len, texts), np.int64, len(texts)))
        self._sizes.append(sizes)
        self._number += len(segmentations)

    def _take(self, value: Any, place: int, sizes: np.ndarray) -> bytes:
        """The characters of a mask; what has to be drawn first is put aside."""
        try:
            mask = fields.segmentation(value)
        except FieldError as error:
            raise BadMask(place, f"It has {error}.") from error
        if mask is None:
            return b""
        if isinstance(mask, dict):
            sizes[place] = mask["size"]
            if isinstance(mask["counts"], str):
                return mask["counts"].encode()
            self._drawings[self._number + place] = array("I", mask["counts"])
        else:
            self._drawings[self._number + place] = [array("d", polygon) for polygon in mask]
        return b""

    def build(self, image_sizes: np.ndarray) -> MaskColumn:
        """All masks as one column.

        Args:
            image_sizes: (n, 2) int64 height and width of the image of each; 0 where unknown.

        Raises:
            BadMask: one has another size than its image, or is damaged.
        """
        lengths = np.concatenate([np.zeros(0, np.int64), *self._lengths])
        sizes = np.concatenate([np.zeros((0, 2), np.int64), *self._sizes])
        starts = np.cumsum(lengths) - lengths
        self._check_sizes(lengths > 0, sizes, image_sizes)
        drawn = [_draw(place, mask, image_sizes[place]) for place, mask in self._drawings.items()]
        characters = b"".join(self._counts)
        _check_run_lengths(characters, lengths, sizes)
        places = list(self._drawings)
        if places:
            lengths[places] = list(map(len, drawn))
            starts[places] = len(characters) + np.cumsum(lengths[places]) - lengths[places]
            sizes[places] = image_sizes[places]
            characters += b"".join(drawn)
        return MaskColumn(characters, starts, lengths, sizes.astype(np.int32))

    def _check_sizes(
        self, has_text: np.ndarray, sizes: np.ndarray, image_sizes: np.ndarray
    ) -> None:
        has_mask = has_text.copy()
        has_mask[list(self._drawings)] = True
        unknown = np.flatnonzero(has_mask & (image_sizes.min(axis=1, initial=1) == 0))
        if len(unknown):
            raise BadMask(
                int(unknown[0]),
                "Masks need the size of their image, but its entry in the ground truth has no "
                "'height' and 'width'; add them to the json.",
            )
        has_size = sizes.max(axis=1, initial=0) > 0
        wrong = np.flatnonzero(
            (has_text | has_size) & has_mask & (sizes != image_sizes).any(axis=1)
        )
        if len(wrong):
            place = int(wrong[0])
            raise BadMask(
                place,
                f"Expected a mask of the image's size (height, width) = "
                f"{tuple(image_sizes[place].tolist())}, but got {tuple(sizes[place].tolist())}; "
                "encode masks at the original image size.",
            )


class BadMask(ValueError):
    """A mask that cannot be used.

    Attributes:
        place: of its detection, in the batch or, for `build`, among all.
    """

    def __init__(self, place: int, reason: str) -> None:
        self.place = place
        super().__init__(reason)


def _texts_of(
    segmentations: Sequence[Any],
) -> tuple[bytes | None, Sequence[str | bytes], np.ndarray]:
    """Characters of all, those of each, and sizes, where all masks are compressed RLE.

    As nearly all results are; else None, and nothing. Without any mask there are no characters.
    """
    none = None, (), np.zeros((0, 2), np.int64)
    if set(map(type, segmentations)) != {dict}:
        if all(value is None for value in segmentations):
            number = len(segmentations)
            return b"", [""] * number, np.zeros((number, 2), np.int64)
        return none
    try:
        counts, sizes = zip(*map(_COUNTS_AND_SIZE, segmentations), strict=True)
    except KeyError:
        return none
    kinds = set(map(type, counts))
    if kinds not in ({str}, {bytes}) or not all(counts):
        return none
    if not set(map(type, sizes)) <= {list, tuple} or set(map(len, sizes)) != {2}:
        return none
    sides = list(chain.from_iterable(sizes))
    if set(map(type, sides)) != {int}:
        return none
    try:
        joined = b"".join(counts) if bytes in kinds else "".join(counts).encode("ascii")
        return joined, counts, np.array(sides, np.int64).reshape(-1, 2)
    except (UnicodeEncodeError, OverflowError):
        return none


def _check_run_lengths(characters: bytes, lengths: np.ndarray, sizes: np.ndarray) -> None:
    own = np.flatnonzero(lengths)
    bounds = np.concatenate([[0], np.cumsum(lengths[own])])  # absent masks take no room
    codes = np.frombuffer(characters, np.uint8)
    problems = run_length_problems(codes, bounds, sizes[own].prod(axis=1))
    if problems:
        index = min(problems)
        raise BadMask(int(own[index]), f"It has segmentation counts {problems[index]}.")


def _draw(place: int, mask: Drawing, size: np.ndarray) -> bytes:
    """Compressed RLE of polygons or of runs."""
    height, width = size.tolist()
    if isinstance(mask, array):
        runs = mask.tolist()
        if sum(runs) != height * width:
            raise BadMask(
                place,
                f"Its segmentation has runs that sum to {sum(runs)}; expected height x width, "
                f"{height * width}.",
            )
        return mask_utils.frPyObjects({"size": [height, width], "counts": runs}, height, width)[
            "counts"
        ]
    polygons = [polygon for polygon in mask if len(polygon) >= _MIN_NUMBERS]
    limit = float(farthest_px(size[None])[0])
    for polygon in polygons:
        if len(polygon) % 2 or not all(-limit <= value <= limit for value in polygon):
            raise BadMask(
                place,
                "Its segmentation has a polygon that is no list of x and y in finite pixels near "
                "the image.",
            )
    if not polygons:
        return _draw(place, array("I", [height * width]), size)
    lists = [polygon.tolist() for polygon in polygons]
    return mask_utils.merge(mask_utils.frPyObjects(lists, height, width))["counts"]
