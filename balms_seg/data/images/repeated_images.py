"""Pictures that are there twice, byte for byte: under two classes, or in two sets."""

from __future__ import annotations

import hashlib
import logging
import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from balms_seg.annotations import shortened
from balms_seg.data.images.feature_files import holds_features
from balms_seg.data.images.image_files import (
    is_cifar,
    member_checksum,
    read_bytes,
    split_archive,
)
from balms_seg.wording import agreeing, counted

logger = logging.getLogger(__name__)

_HEAD_BYTES = 4096  # tells most pictures of one size apart
_NUM_THREADS = 16
_MOST_FILES = 100_000  # of alike sizes that are opened

_Group = list[dict[str, Any]]


def describe_repeated(records: Sequence[dict[str, Any]], class_names: Sequence[str]) -> str | None:
    """A sentence on pictures that come under several classes; None where there are none.

    Args:
        records: of a set, whose files are there.
        class_names: K names, which their labels count in.
    """
    groups = _copies(records)
    if not groups:
        return None
    shown = [
        " and ".join(f"{one['file_name']} ({class_names[one['label']]})" for one in group[:2])
        for group in groups
    ]
    return (
        f"{counted(len(groups), 'picture')} {agreeing(len(groups), 'is', 'are')} in several "
        f"classes, byte for byte: {shortened(shown, 3)}; leave each in one."
    )


def images_of_both(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> set[str]:
    """Addresses of the second set's images that the first one has too, by place or content.

    Args:
        first: records of a set; of features only places are compared.
        second: records of another, whose files are there.
    """
    places = {record["file_name"] for record in first}
    shared = {record["file_name"] for record in second if record["file_name"] in places}
    if holds_features(second):
        return shared
    marked = [
        {"file_name": record["file_name"], "label": place}
        for place, records in enumerate((first, second))
        for record in records
    ]
    copies = (one["file_name"] for group in _copies(marked) for one in group if one["label"])
    return shared.union(copies)


def _copies(records: Sequence[dict[str, Any]]) -> list[_Group]:
    """Groups of equal pictures with several labels.

    Compared are sizes, then the heads of files, then whole files; where members of archives are
    among them, checksums, which the archive has.
    """
    groups = _alike([list(records)], _size)
    with_members = [group for group in groups if any(map(_is_member, group))]
    of_files = [group for group in groups if not any(map(_is_member, group))]
    number = sum(not _is_member(record) for group in groups for record in group)
    if number > _MOST_FILES:
        logger.info("%d images have sizes that others have; copies are not looked for.", number)
        return []
    return [*_alike(with_members, _checksum), *_alike(_alike(of_files, _head), _whole)]


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


def _is_member(record: dict[str, Any]) -> bool:
    return split_archive(record["file_name"]) is not None


def _size(address: str) -> int | None:
    """None for what is no file."""
    if is_cifar(address):
        return None
    if split_archive(address) is not None:
        found = member_checksum(address)
        return None if found is None else found[1]
    try:
        return os.stat(address).st_size
    except OSError:
        return None


def _checksum(address: str) -> int:
    found = member_checksum(address)
    return zlib.crc32(read_bytes(address)) if found is None else found[0]


def _head(address: str) -> bytes:
    with open(address, "rb") as file:
        return file.read(_HEAD_BYTES)


def _whole(address: str) -> bytes:
    return hashlib.sha256(read_bytes(address)).digest()
