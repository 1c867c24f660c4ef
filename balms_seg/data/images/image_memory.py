"""Small image sets that live in memory as one uint8 tensor."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from balms_seg.annotations import shortened
from balms_seg.data.images.image_files import read_image, unreadable_remedy
from balms_seg.wording import counted

logger = logging.getLogger(__name__)


def load_pixels(
    records: Sequence[dict[str, Any]],
    size: int,
    *,
    unreadable: str = "stop",
    pixel_range: Sequence[float] = (),
    training: bool,
) -> Tensor:
    """Decode all images of a set; the last few sets are kept.

    Args:
        records: with "file_name", an address of `image_files`, and "label".
        size: height and width in px.
        unreadable: of images that cannot be decoded: "stop", or "skip": another image of the class
            takes their place, with a warning.
        pixel_range: as for `decode_image`.
        training: whether the set is trained on, for messages.

    Returns:
        (N, 3, size, size) uint8 RGB on the CPU; not to be changed.

    Raises:
        OSError: an image cannot be read, or no image of a class can; names it.
        ValueError: an image has another size; names it.
    """
    addresses = tuple(record["file_name"] for record in records)
    pixels, broken = _decoded(addresses, size, unreadable, tuple(pixel_range), training)
    if not broken:
        return pixels
    labels = [record["label"] for record in records]
    return pixels[torch.tensor(_substitutes(labels, broken, records))]


def _substitutes(
    labels: Sequence[int], broken: Sequence[int], records: Sequence[dict[str, Any]]
) -> list[int]:
    """For each image the one that is used in its place."""
    names = [records[index]["file_name"] for index in broken]
    logger.warning(
        "%d of %d images cannot be decoded; others of the same class take the place "
        "(INPUT.IMAGES.UNREADABLE: skip): %s.",
        *(len(broken), len(records), shortened(names)),
    )
    places, is_broken = list(range(len(labels))), set(broken)
    for index in broken:
        others = (i for i, label in enumerate(labels) if label == labels[index])
        substitute = next((i for i in others if i not in is_broken), None)
        if substitute is None:
            raise OSError(
                f"None of the images of class {labels[index]} can be decoded, for example "
                f"{records[index]['file_name']}; replace them."
            )
        places[index] = substitute
    return places


@lru_cache(maxsize=4)
def _decoded(
    addresses: tuple[str, ...],
    size: int,
    unreadable: str,
    pixel_range: tuple[float, ...],
    training: bool,
) -> tuple[Tensor, tuple[int, ...]]:
    """Pixels of all images, and which could not be decoded."""
    pixels = np.zeros((len(addresses), size, size, 3), np.uint8)
    broken = []
    for row, address in enumerate(addresses):
        try:
            image = read_image(address, pixel_range=pixel_range)
        except FileNotFoundError:
            raise
        except OSError as error:
            if unreadable == "stop":
                remedy = unreadable_remedy(training=training)
                raise OSError(f"Cannot read image {address} ({error}); {remedy}") from error
            broken.append(row)
            continue
        if image.shape != (size, size, 3):
            raise ValueError(
                f"Expected images of {size} x {size} px (INPUT.IMAGES.SIZE), but {address} has "
                f"{image.shape[1]} x {image.shape[0]}; correct the size, or set "
                "INPUT.IMAGES.IN_MEMORY False, so that images are resized."
            )
        pixels[row] = image
    logger.info(
        "%s of %d x %d px in memory (%.0f MiB).",
        *(counted(len(addresses), "image"), size, size, pixels.nbytes / 2**20),
    )
    channels_first = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    return torch.from_numpy(channels_first), tuple(broken)
