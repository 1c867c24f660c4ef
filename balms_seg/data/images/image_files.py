"""Images by address: a file, a member of a zip archive, or a row of torchvision's CIFAR files.

A row of a feature file has such an address, too, but no pixels.

Addresses are file names with what lies inside a container behind it:
"/data/cat.jpg", "/data/images.zip/train/cat/1.jpg", "/data/cifar-10-batches-py/train/17".
"""

from __future__ import annotations

import codecs
import os
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from balms_seg.data.preflight.image_file_checks import missing_images
from balms_seg.decoding import decode_image

CIFAR_FOLDERS = {"cifar-10-batches-py": "CIFAR10", "cifar-100-python": "CIFAR100"}
# The formats of photographs among those that Pillow reads; its vector formats and stubs are none.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".tif", ".tiff", ".webp", ".bmp", ".dib"),
    *(".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".avif", ".tga", ".ico"),
    *(".pcx", ".qoi", ".sgi"),
)
_ARCHIVE = re.compile(r"(.*?\.zip)/(.*)", re.IGNORECASE | re.DOTALL)
_FEATURES = re.compile(r"(.*?\.np[yz])/(.*)", re.IGNORECASE | re.DOTALL)
_MAX_MEMBER_BYTES = 1 << 28
# Beyond this size, no image that is worth a file unpacks to more than so many times its bytes.
_SMALL_MEMBER_BYTES, _MAX_UNPACKING = 1 << 24, 100


def is_archive(path: str) -> bool:
    """Whether a path is called a zip, and is no folder of such a name."""
    return path.lower().endswith(".zip") and not _is_folder(path)


def split_archive(address: str) -> tuple[str, str] | None:
    """Archive and member of an address, where it leads into a zip."""
    match = _ARCHIVE.fullmatch(address)
    if match is None or _is_folder(match[1]):
        return None
    return match[1], match[2]


def is_feature_file(path: str) -> bool:
    """Whether a path is called a file of features, and is no folder of such a name."""
    return path.lower().endswith((".npy", ".npz")) and not _is_folder(path)


def split_features(address: str) -> tuple[str, str] | None:
    """File and key of an address, where it leads into a file of features."""
    match = _FEATURES.fullmatch(address)
    if match is None or _is_folder(match[1]):
        return None
    return match[1], match[2]


def read_image(address: str, *, pixel_range: Sequence[float] = ()) -> np.ndarray:
    """An image as (H, W, 3) uint8 RGB.

    Args:
        address: see the module.
        pixel_range: as for `decode_image`.

    Raises:
        FileNotFoundError: there is none at the address.
        OSError: it cannot be decoded.
    """
    cifar = _cifar_row(address)
    if cifar is not None:
        folder, part, row = cifar
        return cifar_arrays(folder, part)[0][row]
    if split_features(address) is not None:
        raise OSError(f"{address} leads to features, of which there is no image.")
    if split_archive(address) is None:
        return decode_image(address, pixel_range=pixel_range)
    try:
        return decode_image(read_bytes(address), pixel_range=pixel_range)
    except OSError as error:
        raise type(error)(f"{address}: {error}") from error


def unreadable_remedy(*, training: bool) -> str:
    """What to do about an image that cannot be read, for the end of a message."""
    if training:
        return (
            "replace it, take it out of the set, or set INPUT.IMAGES.UNREADABLE to skip, so that "
            "another image takes its place."
        )
    return (
        "replace it or take it out of the set (INPUT.IMAGES.UNREADABLE skips training images only)."
    )


def read_bytes(address: str) -> bytes:
    """The content of a file or of an archive's member.

    Raises:
        FileNotFoundError: there is none at the address.
        OSError: the member is damaged, encrypted, or larger than an image can be.
    """
    inside = split_archive(address)
    if inside is None:
        with open(address, "rb") as file:
            return file.read()
    archive, member = inside
    names = _members(archive, os.getpid())
    if member not in names:
        raise FileNotFoundError(f"There is no {member} in {archive}.")
    handle = _open_archive(archive, os.getpid())
    info = handle.getinfo(names[member])
    if info.file_size > _MAX_MEMBER_BYTES:
        raise OSError(
            f"{member} in {archive} unpacks to {info.file_size / 2**20:.0f} MiB, but at most "
            f"{_MAX_MEMBER_BYTES // 2**20} are read; take it out of the archive."
        )
    if info.file_size > max(_SMALL_MEMBER_BYTES, _MAX_UNPACKING * info.compress_size):
        raise OSError(
            f"{member} in {archive} unpacks {info.compress_size} bytes to "
            f"{info.file_size / 2**20:.0f} MiB, as no image does; take it out of the archive."
        )
    if info.flag_bits & 1:
        raise OSError(f"{archive} is encrypted; write it again without a password.")
    try:
        return handle.read(info)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise OSError(f"{member} in {archive} is damaged ({error}).") from error


def member_checksum(address: str) -> tuple[int, int] | None:
    """Checksum and size of an archive's member, as the archive has them; None where it has none."""
    archive, member = split_archive(address) or ("", "")
    name = _members(archive, os.getpid()).get(member) if archive else None
    if name is None:
        return None
    info = _open_archive(archive, os.getpid()).getinfo(name)
    return info.CRC, info.file_size


def decode_text(content: bytes, where: str) -> str:
    """Text in UTF-8 or, behind its byte order mark, UTF-16; without the mark.

    Args:
        content: of a file.
        where: what to call it in errors.

    Raises:
        ValueError: it is in another encoding.
    """
    is_marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_marked else "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Expected text in UTF-8 in {where}, but byte {error.start} is none; save it as UTF-8."
        ) from error


def archive_names(archive: str) -> tuple[str, ...]:
    """Names of the files in a zip and, ending in a slash, of its folders.

    With forward slashes and without a leading "./", whatever wrote the archive.

    Raises:
        FileNotFoundError: there is no such archive.
        ValueError: it is not a zip.
    """
    return tuple(_members(archive, os.getpid()))


def missing_addresses(addresses: Iterable[str]) -> list[str]:
    """Those of the addresses that lead nowhere."""
    plain, missing = [], []
    for address in addresses:
        inside = split_archive(address)
        if inside is not None:
            archive, member = inside
            if member not in _members(archive, os.getpid()):
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


def is_cifar(address: str) -> bool:
    """Whether an address is of a row of torchvision's CIFAR files."""
    return _cifar_row(address) is not None


def _cifar_row(address: str) -> tuple[str, str, int] | None:
    parts = address.rsplit("/", 3)
    if len(parts) != 4 or parts[1] not in CIFAR_FOLDERS or not parts[3].isdigit():
        return None
    return f"{parts[0]}/{parts[1]}", parts[2], int(parts[3])


@lru_cache(maxsize=256)
def _is_folder(path: str) -> bool:
    return os.path.isdir(path)


@lru_cache(maxsize=8)
def _open_archive(archive: str, process: int) -> zipfile.ZipFile:
    """An archive's handle; every process needs its own, as they share the file position."""
    try:
        return zipfile.ZipFile(archive)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{archive} is not a zip archive ({error}); copy or download it again."
        ) from error


@lru_cache(maxsize=8)
def _members(archive: str, process: int) -> dict[str, str]:
    """Each member's name with forward slashes and without "./", and its name in the archive."""
    found = {}
    for name in _open_archive(archive, process).namelist():
        plain = posixpath.normpath(name.replace("\\", "/"))
        is_folder = name.endswith(("/", "\\"))
        if plain not in (".", "/"):
            found[f"{plain}/" if is_folder else plain] = name
    return found
