"""Images by address: a file, a member of a zip archive, or a row of torchvision's CIFAR files.

Addresses are file names with what lies inside a container behind it:
"/data/cat.jpg", "/data/images.zip/train/cat/1.jpg", "/data/cifar-10-batches-py/train/17".
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from PIL import Image

from balms_seg.data.preflight.image_file_checks import missing_images

CIFAR_FOLDERS = {"cifar-10-batches-py": "CIFAR10", "cifar-100-python": "CIFAR100"}
_ZIP = ".zip/"


def split_archive(address: str) -> tuple[str, str] | None:
    """Archive and member of an address, where it leads into a zip."""
    archive, mark, member = address.partition(_ZIP)
    return (archive + _ZIP.rstrip("/"), member) if mark else None


def read_image(address: str) -> np.ndarray:
    """An image as (H, W, 3) uint8 RGB.

    Raises:
        FileNotFoundError: there is none at the address.
        OSError: it cannot be decoded.
    """
    cifar = _cifar_row(address)
    if cifar is not None:
        folder, part, row = cifar
        return cifar_arrays(folder, part)[0][row]
    with Image.open(io.BytesIO(read_bytes(address))) as image:
        return np.asarray(image.convert("RGB"))


def read_bytes(address: str) -> bytes:
    """The content of a file or of an archive's member.

    Raises:
        FileNotFoundError: there is none at the address.
    """
    inside = split_archive(address)
    if inside is None:
        with open(address, "rb") as file:
            return file.read()
    archive, member = inside
    try:
        return _open_archive(archive, os.getpid()).read(member)
    except KeyError as error:
        raise FileNotFoundError(f"There is no {member} in {archive}.") from error


def archive_members(archive: str) -> tuple[str, ...]:
    """Names of the files in a zip, in the archive's order.

    Raises:
        FileNotFoundError: there is no such archive.
        ValueError: it is not a zip.
    """
    return tuple(n for n in _open_archive(archive, os.getpid()).namelist() if not n.endswith("/"))


def missing_addresses(addresses: Iterable[str]) -> list[str]:
    """Those of the addresses that lead nowhere."""
    plain, missing = [], []
    members: dict[str, set[str]] = {}
    for address in addresses:
        inside = split_archive(address)
        if inside is not None:
            archive, member = inside
            if archive not in members:
                members[archive] = set(archive_members(archive))
            if member not in members[archive]:
                missing.append(address)
        elif _cifar_row(address) is None:
            plain.append(address)
    return missing + missing_images(plain)


@lru_cache(maxsize=4)
def cifar_arrays(folder: str, part: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """CIFAR as torchvision unpacks it: (N, 32, 32, 3) uint8, (N,) int64 labels, class names.

    Args:
        folder: one of `CIFAR_FOLDERS`, as torchvision unpacks it.
        part: "train" or "test".

    Raises:
        RuntimeError: files are missing or damaged.
    """
    from torchvision import datasets

    root, name = os.path.split(folder)
    data_set = getattr(datasets, CIFAR_FOLDERS[name])(root, train=part == "train")
    return data_set.data, np.asarray(data_set.targets, np.int64), tuple(data_set.classes)


def _cifar_row(address: str) -> tuple[str, str, int] | None:
    parts = address.rsplit("/", 3)
    if len(parts) != 4 or parts[1] not in CIFAR_FOLDERS or not parts[3].isdigit():
        return None
    return f"{parts[0]}/{parts[1]}", parts[2], int(parts[3])


@lru_cache(maxsize=8)
def _open_archive(archive: str, process: int) -> zipfile.ZipFile:
    """An archive's handle; every process needs its own, as they share the file position."""
    try:
        return zipfile.ZipFile(archive)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{archive} is not a zip archive ({error}); copy or download it again."
        ) from error
