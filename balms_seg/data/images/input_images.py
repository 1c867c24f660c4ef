"""The images that somebody names for use: files, folders, zips and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from balms_seg.data.images.image_files import IMAGE_SUFFIXES, archive_names, is_archive


def find_images(inputs: Sequence[str]) -> list[str]:
    """Addresses of images, each once, in the order of the inputs; folders in that of names.

    Args:
        inputs: image files; folders and zips, of which all images below are taken but hidden ones;
            or patterns such as "photos/*.jpg".

    Raises:
        FileNotFoundError: there is nothing at an input, or no image in it.
    """
    found: dict[str, None] = {}
    for text in inputs:
        paths = [text] if os.path.exists(text) else sorted(glob.glob(text))
        addresses = [address for path in paths for address in _images_at(path)]
        if not addresses:
            what = "no image in it" if paths else "nothing there"
            raise FileNotFoundError(f"Expected images at {text}, but there is {what}.")
        found |= dict.fromkeys(addresses)
    return list(found)


def _images_at(path: str) -> list[str]:
    if os.path.isdir(path):
        names = [
            os.path.relpath(os.path.join(folder, name), path).replace(os.sep, "/")
            for folder, _, files in os.walk(path)
            for name in files
        ]
    elif is_archive(path):
        names = list(archive_names(path))
    else:
        return [path]
    shown = [name for name in names if not any(part[0] in "._" for part in name.split("/") if part)]
    return [f"{path.rstrip('/')}/{name}" for name in sorted(shown) if _is_image(name)]


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)
