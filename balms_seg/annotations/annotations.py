"""A COCO- or LVIS-style json as flat arrays, the one form that everything reads it from.

Symbols: I images and K classes, by ascending id; A annotations, in the json's order; P polygons of
at least three points.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import Ids, Ragged, Texts
from .mask_columns import MaskKind, unpack_coordinates


@dataclass(frozen=True, eq=False)
class Facts:
    """What is no array.

    Attributes:
        source: the json's path, or what to call the content that was given.
        has_list: whether the json has a list of annotations, be it empty.
        categories: K mappings of `id` and `name`, and where the json has them `frequency`,
            `image_count` and `instance_count`.
        num_unknown_listed: by LVIS list, how many of its ids are not among the categories.
        damages: the first damaged masks: place of the annotation, and what is wrong.
        suspicions: signs that the file as a whole means something else than it says.
        num_sharing: how many images have the file of another one.
        num_share_masks: how many polygons' coordinates are at most 1, unlike those of their boxes.
    """

    source: str
    has_list: bool
    categories: list[dict[str, Any]]
    num_unknown_listed: dict[str, int] = field(default_factory=dict)
    damages: list[tuple[int, str]] = field(default_factory=list)
    suspicions: list[str] = field(default_factory=list)
    num_sharing: int = 0
    num_share_masks: int = 0


@dataclass(frozen=True, eq=False)
class ImageTable:
    """The images.

    Attributes:
        ids: I of them.
        paths: I, relative to the folder of the images; empty where the json has no name.
        sizes: (I, 2) int64 height and width in px; 0 where the json does not say.
        negatives: classes that are verified absent in each image, int32.
        has_negatives: (I,) bool, whether the json says which they are.
        not_exhaustive: classes that are annotated incompletely in each image, int32.
        has_not_exhaustive: (I,) bool.
    """

    ids: Ids
    paths: Texts
    sizes: np.ndarray
    negatives: Ragged
    has_negatives: np.ndarray
    not_exhaustive: Ragged
    has_not_exhaustive: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Masks:
    """The segmentations.

    Attributes:
        kinds: (A,) uint8 of `MaskKind`.
        polygon_offsets: (A + 1,) int64, which of the P polygons are each annotation's.
        coordinates: of each polygon, float64 px or int32 hundredths of them.
        has_extent: (P,) bool, whether a polygon has three points that are not on one line.
        run_lengths: of each annotation its compressed `counts`, uint8.
    """

    kinds: np.ndarray
    polygon_offsets: np.ndarray
    coordinates: Ragged
    has_extent: np.ndarray
    run_lengths: Ragged

    def polygons(self, place: int, *, with_extent: bool = False) -> list[np.ndarray]:
        """The polygons of an annotation as float64 x0, y0, x1, y1, ..., perhaps only some."""
        start, stop = self.polygon_offsets[place : place + 2].tolist()
        return [
            unpack_coordinates(self.coordinates[polygon])
            for polygon in range(start, stop)
            if not with_extent or self.has_extent[polygon]
        ]

    @cached_property
    def is_usable(self) -> np.ndarray:
        """(A,) bool: RLE, or a polygon with extent."""
        ends = np.concatenate([[0], np.cumsum(self.has_extent)])[self.polygon_offsets]
        is_rle = (self.kinds == MaskKind.RLE_TEXT) | (self.kinds == MaskKind.RLE_RUNS)
        return is_rle | (np.diff(ends) > 0)


@dataclass(frozen=True, eq=False)
class Annotations:
    """A json that was checked, with what it leaves out filled in; not to be changed.

    Attributes:
        facts: what is no array.
        image_table: the images.
        ids: A, None where an annotation has none.
        images: (A,) int32 place of each annotation's image.
        classes: (A,) int32 class of each.
        boxes: (A, 4) float64 x, y, width, height in px; the mask's where the json has none.
        areas: (A,) float64 square pixels; the mask's, or the box's, where the json has none.
        is_crowd: (A,) bool.
        has_crowd_flag: (A,) bool, whether the json has the field.
        is_ignored: (A,) bool, a region that is no object (`ignore`).
        masks: the segmentations.
        by_image: places of each image's annotations, in the json's order.
        cache_file: where the arrays lie; None where they are this process's own.
    """

    facts: Facts
    image_table: ImageTable
    ids: Ids
    images: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray
    has_crowd_flag: np.ndarray
    is_ignored: np.ndarray
    masks: Masks
    by_image: Ragged
    cache_file: Path | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.facts.categories)

    @property
    def class_names(self) -> list[str]:
        """K names."""
        return [category["name"] for category in self.facts.categories]

    @property
    def contiguous_ids(self) -> dict[int | str, int]:
        """Category id -> class."""
        return {category["id"]: index for index, category in enumerate(self.facts.categories)}

    @property
    def frequency(self) -> list[str | None]:
        """Each class's group by the json, "r", "c" or "f"; None where it does not say."""
        return [category.get("frequency") for category in self.facts.categories]

    @property
    def is_lvis_style(self) -> bool:
        """Whether images say which classes were verified absent, as LVIS's do."""
        table = self.image_table
        return bool(table.has_negatives.any() and table.has_not_exhaustive.any())

    @property
    def has_masks(self) -> bool:
        """Whether any annotation has a mask to train on."""
        return bool(self.masks.is_usable.any())

    def name_of(self, place: int) -> str:
        """What to call an annotation in an error."""
        identifier = self.ids[place]
        named = f"at place {place}" if identifier is None else str(identifier)
        return f"Annotation {named} of image {self.image_table.ids[int(self.images[place])]}"

    def segmentation(self, place: int) -> list[np.ndarray] | dict[str, Any] | None:
        """An annotation's polygons of at least three points, or compressed RLE; None without."""
        kind = int(self.masks.kinds[place])  # as numpy's, it would be slow to compare
        if kind in (MaskKind.RLE_TEXT, MaskKind.RLE_RUNS):
            return self.run_lengths(place)
        return self.masks.polygons(place) or None

    def run_lengths(self, place: int) -> dict[str, Any]:
        """An annotation's compressed RLE; `counts` is text where it is in the json."""
        counts = self.masks.run_lengths[place].tobytes()
        size = self.image_table.sizes[self.images[place]].tolist()
        is_text = int(self.masks.kinds[place]) == MaskKind.RLE_TEXT
        return {"size": size, "counts": counts.decode() if is_text else counts}
