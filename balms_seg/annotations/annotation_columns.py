"""A json's annotations as flat arrays, with what they leave out filled in.

Symbols: A annotations of the json, a of a part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np

from .entries import AnnotationEntry, RunLengths, Source, decode_annotations, entry_name
from .errors import AnnotationError, FieldError, check_unique, counted, shortened
from .fields import canonical_id
from .mask_columns import MaskKind, build_mask_columns, farthest_px, unpack_coordinates
from .polygons import MIN_NUMBERS, enclosing_box

_AT_ONCE = 10_000
_NUM_DAMAGES_KEPT = 5
_NO_BOX = (np.nan,) * 4


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
        self._unknown: dict[str, list[str]] = {"image_id": [], "category_id": []}
        self._missing: dict[str, list[int]] = {"image_id": [], "category_id": []}
        self.ids: list[int | str | None] = []
        self.damages: list[tuple[int, str]] = []

    def add(self, sources: Sequence[Source]) -> Iterator[int]:
        """Decode, check and flatten all annotations; yields how many each part has."""
        for first in range(0, len(sources), _AT_ONCE):
            part = sources[first : first + _AT_ONCE]
            self._add_part(part, first)
            yield len(part)

    def _add_part(self, sources: Sequence[Source], first: int) -> None:
        decoded = decode_annotations(sources, first=first, path=self._path)
        entries, damages = decoded.entries, dict(decoded.damages)
        self._take_ids(entries, first)
        images = self._places("image_id", self._image_index, entries, first)
        self._take_sizes_of_masks(entries, images)
        classes = self._places("category_id", self._class_index, entries, first)
        sizes = self.sizes[np.maximum(images, 0)]
        boxes = np.fromiter(
            chain.from_iterable(entry.bbox or _NO_BOX for entry in entries),
            np.float64,
            4 * len(entries),
        ).reshape(-1, 4)
        columns = build_mask_columns(entries, sizes, damages)
        _fill_boxes(entries, boxes, damages)
        self._check_boxes(boxes, sizes, first)
        areas = [_area(entry, columns, place, sizes, boxes) for place, entry in enumerate(entries)]
        columns |= {
            "images": images,
            "classes": classes,
            "boxes": boxes,
            "areas": np.array(areas, np.float64),
            "has_crowd_flag": np.array([entry.iscrowd is not None for entry in entries], bool),
            "is_crowd": np.array([bool(entry.iscrowd) for entry in entries], bool),
            "is_ignored": np.array([bool(entry.ignore) for entry in entries], bool),
        }
        self._parts.append(columns)
        for place in sorted(damages)[: _NUM_DAMAGES_KEPT - len(self.damages)]:
            self.damages.append((first + place, damages[place]))

    def _take_ids(self, entries: Sequence[AnnotationEntry], first: int) -> None:
        for place, entry in enumerate(entries):
            identifier = entry.id
            try:
                self.ids.append(None if identifier is None else canonical_id(identifier))
            except FieldError as error:
                name = entry_name(None, first + place)
                raise AnnotationError(f"Annotation {name} in {self._path} has {error}.") from None

    def _places(
        self, field: str, index: Mapping[Any, int], entries: Sequence[AnnotationEntry], first: int
    ) -> np.ndarray:
        """Place of each annotation's image or category; -1 for what is noted as an error."""
        places = [index.get(value, -1) for value in map(attrgetter(field), entries)]
        for number in [number for number, place in enumerate(places) if place < 0]:
            value = getattr(entries[number], field)
            if value is None:
                self._missing[field].append(first + number)
                continue
            name = entry_name(entries[number].id, first + number)
            try:
                places[number] = index.get(canonical_id(value, field), -1)
            except FieldError as error:
                raise AnnotationError(f"Annotation {name} in {self._path} has {error}.") from None
            if places[number] < 0:
                self._unknown[field].append(f"{name} ({field} {value!r})")
        return np.array(places, np.int32)

    def _take_sizes_of_masks(self, entries: Sequence[AnnotationEntry], images: np.ndarray) -> None:
        """Give images of unknown size that of their first RLE."""
        if self.sizes.all():
            return
        for entry, image in zip(entries, images.tolist(), strict=True):
            mask = entry.segmentation
            if isinstance(mask, RunLengths) and not self.sizes[image].all():
                self.sizes[image] = mask.size

    def _check_boxes(self, boxes: np.ndarray, sizes: np.ndarray, first: int) -> None:
        far = np.flatnonzero(np.abs(boxes).max(axis=1, initial=0) > farthest_px(sizes))
        if len(far):
            place = int(far[0])
            name = entry_name(self.ids[first + place], first + place)
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
        for field, positions in self._missing.items():
            if positions:
                raise AnnotationError(
                    f"{counted(len(positions), 'annotation')} in {self._path} without {field!r} "
                    f"(positions in the list: {shortened(positions)})."
                )
        for field, named in self._unknown.items():
            if named:
                section = "images" if field == "image_id" else "categories"
                raise AnnotationError(
                    f"{counted(len(named), 'annotation')} in {self._path} with a {field} that is "
                    f"not in its {section}: {shortened(named)}."
                )
        check_unique([value for value in self.ids if value is not None], "annotation", self._path)
        return self._joined()

    def _joined(self) -> dict[str, np.ndarray]:
        if not self._parts:
            self._add_part([], 0)
        if len({part["coordinates"].dtype for part in self._parts}) > 1:
            for part in self._parts:
                part["coordinates"] = unpack_coordinates(part["coordinates"])
        names = list(self._parts[0])
        return {name: np.concatenate([part.pop(name) for part in self._parts]) for name in names}


def _fill_boxes(
    entries: Sequence[AnnotationEntry], boxes: np.ndarray, damages: Mapping[int, str]
) -> None:
    """Take boxes that are absent from the masks; nan stays where there is none."""
    for place in np.flatnonzero(np.isnan(boxes[:, 0])).tolist():
        box = None if place in damages else _mask_box(entries[place].segmentation)
        if box is not None:
            boxes[place] = box


def _mask_box(segmentation: Any) -> tuple[float, ...] | None:
    """The smallest box around a mask, x, y, width and height; None without a mask."""
    if isinstance(segmentation, RunLengths):
        import pycocotools.mask

        return tuple(pycocotools.mask.toBbox(_as_rle(segmentation)).tolist())
    polygons = [np.array(p) for p in segmentation or () if len(p) >= MIN_NUMBERS]
    return enclosing_box(polygons) if polygons else None


def _area(
    entry: AnnotationEntry,
    columns: Mapping[str, np.ndarray],
    place: int,
    sizes: np.ndarray,
    boxes: np.ndarray,
) -> float:
    """The area given; where there is none the mask's, and without a mask the box's."""
    if entry.area is not None:
        return entry.area
    kind = columns["mask_kinds"][place]
    if kind in (MaskKind.NONE, MaskKind.DEGENERATE, MaskKind.DAMAGED):
        return float(boxes[place, 2] * boxes[place, 3])
    import pycocotools.mask

    if isinstance(entry.segmentation, RunLengths):
        return float(pycocotools.mask.area(_as_rle(entry.segmentation)))
    polygons = [p for p in entry.segmentation or () if len(p) >= MIN_NUMBERS]
    height, width = sizes[place].tolist()
    if not height:  # any size that holds the mask
        height = width = max(1, int(np.ceil(max(map(max, polygons)))) + 1)
    drawn = pycocotools.mask.frPyObjects(polygons, height, width)
    return float(pycocotools.mask.area(pycocotools.mask.merge(drawn)))


def _as_rle(mask: RunLengths) -> dict[str, Any]:
    import pycocotools.mask

    rle = {"size": list(mask.size), "counts": mask.counts}
    if isinstance(mask.counts, list):
        return pycocotools.mask.frPyObjects(rle, *mask.size)
    return rle
