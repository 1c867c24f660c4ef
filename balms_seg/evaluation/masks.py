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


def mask_areas(rles: Sequence[dict[str, Any]]) -> np.ndarray:
    """Area of each compressed RLE in square pixels, (n,) float64."""
    return np.concatenate([np.zeros(0), *_in_chunks(mask_utils.area, rles)])


def mask_boxes(rles: Sequence[dict[str, Any]]) -> np.ndarray:
    """Bounding box of each compressed RLE, (n, 4) float64: x, y, width, height in pixels."""
    return np.concatenate([np.zeros((0, 4)), *_in_chunks(mask_utils.toBbox, rles)])


def _in_chunks(
    function: Callable[[list[dict[str, Any]]], Any], rles: Sequence[dict[str, Any]]
) -> list[np.ndarray]:
    """In chunks: pycocotools counts the list in 8 bits under numpy 2 and overflows beyond 255."""
    return [
        np.asarray(function(list(rles[start : start + _CHUNK])), dtype=np.float64)
        for start in range(0, len(rles), _CHUNK)
    ]
