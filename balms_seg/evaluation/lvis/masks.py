"""Masks of the json formats as compressed RLE, and their areas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

_CHUNK = 100


def segmentation_to_rle(segmentation: Any, size: tuple[int, int] | None) -> dict[str, Any]:
    """Turn polygons, uncompressed or compressed RLE into compressed RLE.

    Args:
        segmentation: list of polygons (flat x, y lists), or a dict with `counts` and `size`.
        size: (height, width) of the image in pixels.

    Raises:
        ValueError: the size is unknown, or an RLE has another size than the image.
    """
    if size is None:
        raise ValueError(
            "Masks need the size of their image, but its entry in the ground truth has no "
            "'height' and 'width'; add them to the json."
        )
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        return mask_utils.merge(mask_utils.frPyObjects(polygons, *size))
    if tuple(segmentation["size"]) != size:
        raise ValueError(
            f"Expected a mask of the image's size (height, width) = {size}, but got "
            f"{tuple(segmentation['size'])}; encode masks at the original image size."
        )
    if isinstance(segmentation["counts"], list):
        return mask_utils.frPyObjects(segmentation, *size)
    return segmentation


def annotation_masks(
    segmentations: Sequence[Any], sizes: Sequence[tuple[int, int] | None]
) -> list[dict[str, Any]]:
    """Compressed RLE of each segmentation; many polygons are drawn in one call.

    Args:
        segmentations: n, as for `segmentation_to_rle`.
        sizes: (height, width) of the image of each, in pixels.

    Raises:
        ValueError: as for `segmentation_to_rle`.
    """
    masks: list[Any] = [None] * len(segmentations)
    by_size: dict[Any, tuple[list[int], list[Any]]] = {}
    for index, (segmentation, size) in enumerate(zip(segmentations, sizes, strict=True)):
        if size and type(segmentation) is list and len(segmentation) == 1:
            places, polygons = by_size.setdefault(size, ([], []))
            places.append(index)
            polygons.append(segmentation[0])
        else:
            masks[index] = segmentation_to_rle(segmentation, size)
    for size, (places, polygons) in by_size.items():
        for start in range(0, len(places), _CHUNK):
            drawn = mask_utils.frPyObjects(polygons[start : start + _CHUNK], *size)
            for index, mask in zip(places[start : start + _CHUNK], drawn, strict=True):
                masks[index] = mask
    return masks


def mask_areas(rles: Sequence[dict[str, Any]]) -> np.ndarray:
    """Area of each compressed RLE in square pixels, (n,) float64."""
    return np.concatenate([np.zeros(0), *_in_chunks(mask_utils.area, rles)])


def _in_chunks(
    function: Callable[[list[dict[str, Any]]], Any], rles: Sequence[dict[str, Any]]
) -> list[np.ndarray]:
    """In chunks: pycocotools counts the list in 8 bits under numpy 2 and overflows beyond 255."""
    return [
        np.asarray(function(list(rles[start : start + _CHUNK])), dtype=np.float64)
        for start in range(0, len(rles), _CHUNK)
    ]
