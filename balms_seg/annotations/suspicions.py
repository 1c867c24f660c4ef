"""Signs that a file as a whole means something else than it says.

A single odd box is clipped or dropped with its number; where most are odd, the file is refused
unless someone insists on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from balms_seg.wording import agreeing, counted

from .annotations import Annotations, Masks
from .errors import AnnotationError
from .mask_columns import unpack_coordinates

_BEYOND_PX = 2.0  # boxes are rounded, and drawn a little beyond the border
_MOST = 0.5
# Where all boxes make sense as corners, fewer that do not as sizes suffice.
_SOME = 0.1
_FEWEST = 3


def find_suspicions(
    boxes: np.ndarray, polygon_ends: np.ndarray, sizes: np.ndarray, paths: Sequence[str]
) -> list[str]:
    """Say what a file looks like, where it does not look like pixels x, y, width, height.

    Args:
        boxes: (A, 4) float64 as the json has them.
        polygon_ends: (A,) what `largest_coordinates` gives.
        sizes: (A, 2) height and width of each one's image; 0 where unknown.
        paths: of the images.
    """
    found = []
    of_polygons = (sizes.min(axis=1, initial=1) > 0) & ~np.isnan(polygon_ends)
    number = int(of_polygons.sum())
    if number >= _FEWEST and polygon_ends[of_polygons].max() <= 1 < sizes[of_polygons].min():
        found.append(
            f"all {number} segmentations by polygons have coordinates of at most 1, as shares of "
            "the image have; expected [[x, y, x, y, ...], ...] in pixels"
        )
    known = (sizes.min(axis=1, initial=1) > 0) & ~np.isnan(boxes[:, 0])
    if known.sum() >= _FEWEST:
        found += _box_suspicions(boxes[known], sizes[known])
    shared = shared_paths(paths)
    if sum(shared.values()) > _MOST * sum(map(bool, paths)):
        found.append(
            f"{sum(shared.values())} of {len(paths)} images share their file with another one, "
            f"the first is {next(iter(shared))}; expected one image for each file, with all its "
            "annotations, since what another of the file holds would be trained on as background"
        )
    return found


def shared_paths(paths: Sequence[str]) -> dict[str, int]:
    """The paths that several images have, each with their number."""
    return {path: times for path, times in Counter(paths).items() if path and times > 1}


def is_beyond_image(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(A,) bool: a box ends beyond its image, by more than rounding; False where it is unknown."""
    ends = boxes[:, :2] + boxes[:, 2:]
    return ((ends > sizes[:, ::-1] + _BEYOND_PX) & (sizes[:, ::-1] > 0)).any(axis=1)


def largest_coordinates(masks: Masks) -> np.ndarray:
    """(A,) float64 px, of each annotation's polygons; nan where it has none."""
    largest = np.full(len(masks.kinds), np.nan)
    if len(masks.coordinates):  # each of at least three points
        of_polygons = np.maximum.reduceat(masks.coordinates.values, masks.coordinates.offsets[:-1])
        own = np.flatnonzero(np.diff(masks.polygon_offsets))
        largest[own] = unpack_coordinates(
            np.maximum.reduceat(of_polygons, masks.polygon_offsets[own])
        )
    return largest


def is_share_beside_pixels(boxes: np.ndarray, polygon_ends: np.ndarray) -> np.ndarray:
    """(A,) bool: polygons that end within 1 px of the image's corner, of a box that does not."""
    ends = (boxes[:, :2] + boxes[:, 2:]).max(axis=1)
    return (polygon_ends <= 1) & (ends > 1 + _BEYOND_PX)


def _box_suspicions(boxes: np.ndarray, sizes: np.ndarray) -> list[str]:
    expected = "; expected bbox as [x, y, width, height] in pixels"
    if boxes.max() <= 1 and sizes.min() > 1:
        return [
            f"all {len(boxes)} boxes have coordinates of at most 1, as shares of the image have"
            f"{expected}"
        ]
    num_beyond = int(is_beyond_image(boxes, sizes).sum())
    are_corners = (
        (boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= sizes[:, ::-1] + _BEYOND_PX)
    ).all()
    if num_beyond > (_SOME if are_corners else _MOST) * len(boxes):
        seen = ""
        if are_corners:
            seen = ", and all of them lie in it when they are read as corners x1, y1, x2, y2"
        return [
            f"{num_beyond} of {counted(len(boxes), 'box')} {agreeing(num_beyond, 'ends', 'end')} "
            f"beyond the image{seen}{expected}"
        ]
    return []


def require_trust(annotations: Annotations, *, is_trusted: bool) -> None:
    """Raise AnnotationError where a file looks like something else, and nobody insists on it."""
    if annotations.facts.suspicions and not is_trusted:
        raise AnnotationError(
            f"{annotations.facts.source}: {'; '.join(annotations.facts.suspicions)}. Correct the "
            "file, or take it as it is with DATASETS.TRUST_ANNOTATIONS True (--trust-annotations)."
        )
