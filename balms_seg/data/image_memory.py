"""Small image sets that live in memory as one uint8 tensor."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from balms_seg.data.image_files import read_image

logger = logging.getLogger(__name__)


def load_pixels(records: Sequence[dict[str, Any]], size: int) -> Tensor:
    """Decode all images of a set; the last few sets are kept.

    Args:
        records: with "file_name", an address of `image_files`.
        size: height and width in px.

    Returns:
        (N, 3, size, size) uint8 RGB on the CPU; not to be changed.

    Raises:
        OSError: an image cannot be read; names it.
        ValueError: an image has another size; names it.
    """
    return _decoded(tuple(record["file_name"] for record in records), size)


@lru_cache(maxsize=4)
def _decoded(addresses: tuple[str, ...], size: int) -> Tensor:
    pixels = np.empty((len(addresses), size, size, 3), np.uint8)
    for row, address in enumerate(addresses):
        try:
            image = read_image(address)
        except FileNotFoundError:
            raise
        except (OSError, SyntaxError, EOFError) as error:  # what PIL raises on broken files
            raise OSError(
                f"Cannot read image {address} ({error}); replace it, take it out of the set, or "
                "set INPUT.IMAGES.UNREADABLE to skip."
            ) from error
        if image.shape != (size, size, 3):
            raise ValueError(
                f"Expected images of {size} x {size} px (INPUT.IMAGES.SIZE), but {address} has "
                f"{image.shape[1]} x {image.shape[0]}; correct the size, or set "
                "INPUT.IMAGES.IN_MEMORY False, so that images are resized."
            )
        pixels[row] = image
    logger.info(
        "%d images of %d x %d px are in memory (%.0f MiB).",
        *(len(addresses), size, size, pixels.nbytes / 2**20),
    )
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
