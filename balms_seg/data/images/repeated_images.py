"""Pictures that lie under two classes, byte for byte: copies that somebody forgot."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from balms_seg.annotations import shortened
from balms_seg.data.images.image_files import (
    is_cifar,
    member_checksum,
    read_bytes,
    split_archive,
)

logger = logging.getLogger(__name__)

_HEAD_BYTES = 4096  # tells most pictures of one size apart
_NUM_THREADS = 16
_MOST_FILES = 100_000  # of alike sizes that are opened

_Group = list[dict[str, Any]]


def describe_repeated(records: Sequence[dict[str, Any]], class_names: Sequence[str]) -> str | None:
    """A sentence on pictures that come under several classes; None where there are none.

    Files are compared by their sizes, then their heads, then whole; members of archives by the
    checksums that the archive has.

    Args:
        records: of a set, whose files are there.
        class_names: K names, which their labels count in.
    """
    groups = _alike([list(records)], _stamp)
    number = sum(map(len, groups))
    if number > _MOST_FILES:
        logger.info("%d images have sizes that others have; copies are not looked for.", number)
        return None
    groups = _alike(_alike(groups, _head), _whole)
    if not groups:
        return None
    shown = [
        " and ".join(f"{one['file_name']} ({class_names[one['label']]})" for one in group[:2])
        for group in groups
    ]
    return (
        f"{len(groups)} pictures are in several classes, byte for byte: {shortened(shown, 3)}; "
        "leave each in one."
    )


def _alike(groups: Iterable[_Group], trait: Callable[[str], Hashable]) -> list[_Group]:
    """The groups divided by a trait of their images, those of several classes."""
    found = []
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        for group in groups:
            divided: dict[Hashable, _Group] = defaultdict(list)
            traits = pool.map(trait, [record["file_name"] for record in group])
            for record, own in zip(group, traits, strict=True):
                if own is not None:
                    divided[own].append(record)
            found += [one for one in divided.values() if len({r["label"] for r in one}) > 1]
    return found


def _stamp(address: str) -> Hashable:
    """Size of a file, checksum of a member; None for what is no file."""
    if is_cifar(address):
        return None
    if split_archive(address) is not None:
        return member_checksum(address)
    try:
        return os.stat(address).st_size
    except OSError:
        return None


def _head(address: str) -> Hashable:
    if split_archive(address) is not None:
        return 0
    with open(address, "rb") as file:
        return file.read(_HEAD_BYTES)


def _whole(address: str) -> Hashable:
    if split_archive(address) is not None:
        return 0
    return hashlib.sha256(read_bytes(address)).digest()
