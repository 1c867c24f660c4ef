"""Masks of the json formats as compressed RLE, and their areas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

_AREA_CHUNK = 100


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
    """Area of each compressed RLE in square pixels, (n,) float64.

    In chunks: pycocotools counts the list in 8 bits under numpy 2 and overflows beyond 255.
    """
    chunks = [
        np.asarray(mask_utils.area(list(rles[start : start + _AREA_CHUNK])), dtype=np.float64)
        for start in range(0, len(rles), _AREA_CHUNK)
    ]
    return np.concatenate([np.zeros(0), *chunks])
