"""A json's annotations as flat arrays, with what they leave out filled in.

Symbols: A annotations of the json, a of a part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

import numpy as np

from balms_seg.wording import counted

from .entries import (
    AnnotationFields,
    RunLengths,
    Source,
    decode_annotations,
    entry_name,
    polygons_of,
)
from .errors import NUM_NAMED, AnnotationError, FieldError, check_unique, shortened
from .fields import canonical_id
from .mask_columns import MaskKind, build_mask_columns, farthest_px, unpack_coordinates
from .polygons import MIN_NUMBERS, enclosing_box

_AT_ONCE = 4_000  # of which what is made in between stays in a processor's cache
_NUM_DAMAGES_KEPT = 5
_NO_BOX = (np.nan,) * 4


@dataclass
class _Named:
    """How many there are of something, the first few by name."""

    number: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.number += 1
        if len(self.first) < NUM_NAMED:
            self.first.append(name)

    def __str__(self) -> str:
        return shortened(self.first, total=self.number)


class AnnotationColumns:
    """Collects the annotations of a json part by part.

    Args:
        path: the json's name, for errors.
        image_index: id -> place of each image.
        class_index: id -> place of each category.
        sizes: (I, 2) int64 height and width of each image; 0 where unknown.

    Attributes:
        sizes: those given, and those that RLE have.
        ids: of the annotations; None where they have none.
        damages: the first damaged segmentations: place of the annotation, and what is wrong.
    """

    def __init__(
        self,
        path: str,
        image_index: Mapping[Any, int],
        class_index: Mapping[Any, int],
        sizes: np.ndarray,
    ) -> None:
        self._path = path
        self._image_index = image_index
        self._class_index = class_index
        self.sizes = sizes.copy()
        self._parts: list[dict[str, np.ndarray]] = []
        self._unknown = {"image_id": _Named(), "category_id": _Named()}
        self._missing = {"image_id": _Named(), "category_id": _Named()}
        self.ids: np.ndarray | list[int | str | None] = []
        self._id_parts: list[np.ndarray | list[int | str | None]] = []
        self.damages: list[tuple[int, str]] = []

    def add(self, sources: Sequence[Source]) -> Iterator[int]:
        """Decode, check and flatten all annotations; yields how many each part has."""
        for first in range(0, len(sources), _AT_ONCE):
            part = sources[first : first + _AT_ONCE]
            self._add_part(part, first)
            yield len(part)

    def _add_part(self, sources: Sequence[Source], first: int) -> None:
        given, polygons, damages = decode_annotations(sources, first=first, path=self._path)
        self._take_ids(given.id, first)
        images = self._places("image_id", self._image_index, given, first)
        classes = self._places("category_id", self._class_index, given, first)
        if self._has_errors():  # which are counted to the end; nothing else is needed any more
            self._parts.clear()
            return
        self._take_sizes_of_masks(given.segmentation, images)
        sizes = self.sizes[images]
        flat = chain.from_iterable([box or _NO_BOX for box in given.bbox])
        boxes = np.fromiter(flat, np.float64, 4 * len(sources)).reshape(-1, 4)
        columns = build_mask_columns(given.segmentation, polygons, sizes, damages)
        _fill_boxes(given.segmentation, boxes, damages)
        self._check_boxes(boxes, sizes, given.id, first)
        columns |= {
            "images": images,
            "classes": classes,
            "boxes": boxes,
            "areas": _areas(given, columns["mask_kinds"], sizes, boxes),
            "has_crowd_flag": _flags(given.iscrowd, lambda value: value is not None),
            "is_crowd": _flags(given.iscrowd, bool),
            "is_ignored": _flags(given.ignore, bool),
        }
        self._parts.append(columns)
        for place in sorted(damages)[: _NUM_DAMAGES_KEPT - len(self.damages)]:
            self.damages.append((first + place, damages[place]))

    def _take_ids(self, ids: Sequence[int | str | None], first: int) -> None:
        numbers = [value for value in ids if type(value) is int]
        if ids and len(numbers) == len(ids) and max(map(abs, numbers)) < 2**63:
            self._id_parts.append(np.array(numbers, np.int64))
            return
        taken: list[int | str | None] = []
        for place, identifier in enumerate(ids):
            try:
                taken.append(None if identifier is None else canonical_id(identifier))
            except FieldError as error:
                name = entry_name(None, first + place)
                raise AnnotationError(f"Annotation {name} in {self._path} has {error}.") from None
        self._id_parts.append(taken)

    def _places(
        self, field: str, index: Mapping[Any, int], given: AnnotationFields, first: int
    ) -> np.ndarray:
        """Place of each annotation's image or category; -1 for what is noted as an error."""
        values = getattr(given, field)
        places = np.fromiter(map(index.get, values, repeat(-1)), np.int32, len(values))
        for place in np.flatnonzero(places < 0).tolist():
            value = values[place]
            if value is None:
                self._missing[field].add(str(first + place))
                continue
            name = entry_name(given.id[place], first + place)
            try:
                places[place] = index.get(canonical_id(value, field), -1)
            except FieldError as error:
                raise AnnotationError(f"Annotation {name} in {self._path} has {error}.") from None
            if places[place] < 0:
                self._unknown[field].add(f"{name} ({field} {value!r})")
        return places

    def _has_errors(self) -> bool:
        return any(named.number for named in (*self._missing.values(), *self._unknown.values()))

    def _take_sizes_of_masks(self, masks: Sequence[Any], images: np.ndarray) -> None:
        """Give images of unknown size that of their first RLE."""
        if self.sizes.all():
            return
        for mask, image in zip(masks, images.tolist(), strict=True):
            if isinstance(mask, RunLengths) and not self.sizes[image].all():
                self.sizes[image] = mask.size

    def _check_boxes(
        self, boxes: np.ndarray, sizes: np.ndarray, ids: Sequence[Any], first: int
    ) -> None:
        far = np.flatnonzero(np.abs(boxes).max(axis=1, initial=0) > farthest_px(sizes))
        if len(far):
            place = int(far[0])
            name = entry_name(ids[place], first + place)
            height, width = sizes[place].tolist()
            size = f"of width {width} and height {height}" if width else "of unknown size"
            raise AnnotationError(
                f"Annotation {name} in {self._path} has bbox {boxes[place].tolist()} in an image "
                f"{size}; expected [x, y, width, height] in pixels."
            )

    def finish(self) -> dict[str, np.ndarray]:
        """All parts behind each other.

        Raises:
            AnnotationError: annotations lack or name unknown images or categories.
        """
        for key, positions in self._missing.items():
            if positions.number:
                raise AnnotationError(
                    f"{counted(positions.number, 'annotation')} in {self._path} without {key!r} "
                    f"(positions in the list: {positions})."
                )
        for key, named in self._unknown.items():
            if named.number:
                section = "images" if key == "image_id" else "categories"
                raise AnnotationError(
                    f"{counted(named.number, 'annotation')} in {self._path} whose {key} is not "
                    f"in its {section}: {named}."
                )
        self.ids = self._joined_ids()
        return self._joined()

    def _joined_ids(self) -> np.ndarray | list[int | str | None]:
        """All ids, each there once."""
        arrays = [part for part in self._id_parts if isinstance(part, np.ndarray)]
        if arrays and len(arrays) == len(self._id_parts):
            numbers: np.ndarray = np.concatenate(arrays)
            if np.diff(np.sort(numbers)).all():
                return numbers
        ids: list[int | str | None] = []
        for part in self._id_parts:
            ids.extend(part.tolist() if isinstance(part, np.ndarray) else part)
        check_unique([value for value in ids if value is not None], "annotation", self._path)
        return ids

    def _joined(self) -> dict[str, np.ndarray]:
        if not self._parts:
            self._add_part([], 0)
        if len({part["coordinates"].dtype for part in self._parts}) > 1:
            for part in self._parts:
                part["coordinates"] = unpack_coordinates(part["coordinates"])
        names = list(self._parts[0])
        return {name: np.concatenate([part.pop(name) for part in self._parts]) for name in names}


def _fill_boxes(masks: Sequence[Any], boxes: np.ndarray, damages: Mapping[int, str]) -> None:
    """Take boxes that are absent from the masks; nan stays where there is none."""
    for place in np.flatnonzero(np.isnan(boxes[:, 0])).tolist():
        box = None if place in damages else _mask_box(masks[place])
        if box is not None:
            boxes[place] = box


def _mask_box(segmentation: Any) -> tuple[float, ...] | None:
    """The smallest box around a mask, x, y, width and height; None without a mask."""
    if isinstance(segmentation, RunLengths):
        import pycocotools.mask

        return tuple(pycocotools.mask.toBbox(_as_rle(segmentation)).tolist())
    if segmentation is None:
        return None
    polygons = [np.array(p) for p in polygons_of(segmentation) if len(p) >= MIN_NUMBERS]
    return enclosing_box(polygons) if polygons else None


def _flags(values: Sequence[int | None], is_set: Callable[[int | None], bool]) -> np.ndarray:
    """(a,) bool; nearly all files leave the field out, or have it everywhere the same."""
    different = set(values)
    if len(different) == 1:
        return np.full(len(values), is_set(different.pop()))
    return np.fromiter(map(is_set, values), bool, len(values))


def _areas(
    given: AnnotationFields, kinds: np.ndarray, sizes: np.ndarray, boxes: np.ndarray
) -> np.ndarray:
    """The areas given; where there is none the mask's, and without a mask the box's."""
    if type(None) not in set(map(type, given.area)):
        return np.array(given.area, np.float64)
    has_mask = np.isin(kinds, (MaskKind.POLYGONS, MaskKind.RLE_TEXT, MaskKind.RLE_RUNS))
    areas = boxes[:, 2] * boxes[:, 3]
    for place, area in enumerate(given.area):
        if area is not None:
            areas[place] = area
        elif has_mask[place]:
            areas[place] = _mask_area(given.segmentation[place], sizes[place].tolist())
    return areas


def _mask_area(segmentation: Any, size: list[int]) -> float:
    import pycocotools.mask

    if isinstance(segmentation, RunLengths):
        return float(pycocotools.mask.area(_as_rle(segmentation)))
    polygons = [polygon for polygon in polygons_of(segmentation) if len(polygon) >= MIN_NUMBERS]
    if not all(size):  # any size that holds the mask
        size = [max(1, int(np.ceil(max(map(max, polygons)))) + 1)] * 2
    drawn = pycocotools.mask.frPyObjects(polygons, *size)
    return float(pycocotools.mask.area(pycocotools.mask.merge(drawn)))


def _as_rle(mask: RunLengths) -> dict[str, Any]:
    import pycocotools.mask

    rle = {"size": list(mask.size), "counts": mask.counts}
    if isinstance(mask.counts, list):
        return pycocotools.mask.frPyObjects(rle, *mask.size)
    return rle
