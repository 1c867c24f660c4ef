"""Sizes of images that a json leaves out, from the headers of their files."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from balms_seg.decoding import read_header
from balms_seg.wording import counted

from .annotations import Annotations
from .errors import AnnotationError
from .image_files import ImageFolder

_NUM_THREADS = 16  # opening a file waits for the disk more than it computes


@lru_cache(maxsize=8)
def with_image_sizes(annotations: Annotations, folder: ImageFolder) -> Annotations:
    """The annotations with a size for every image.

    Args:
        annotations: of a file; images whose size it has are not opened.
        folder: where the images lie.

    Raises:
        AnnotationError: a size is missing, and the image cannot be read.
    """
    table = annotations.image_table
    unknown = np.flatnonzero(table.sizes.min(axis=1, initial=1) == 0).tolist()
    if not unknown:
        return annotations
    paths = [folder.path(table.paths[image]) for image in unknown]
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        found = list(threads.map(_header_size, paths))
    errors = [size for size in found if isinstance(size, OSError)]
    if errors:
        first = str(errors[0]).rstrip(".")
        raise AnnotationError(
            f"{counted(len(errors), 'image')} in {annotations.facts.source} without width and "
            f"height, and without a file to read them from, the first: {first}; add them to the "
            "json, or correct the images or their folder."
        )
    sizes = table.sizes.copy()
    sizes[unknown] = found
    # The arrays on disk have other sizes.
    return dataclasses.replace(
        annotations, image_table=dataclasses.replace(table, sizes=sizes), cache_file=None
    )


def _header_size(path: str) -> tuple[int, int] | OSError:
    """Height and width of the upright picture, or why it cannot be read."""
    try:
        width, height = read_header(path).shown_size
    except OSError as error:
        return error
    return height, width
