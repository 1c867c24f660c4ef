"""Image sets as class folders, in a folder or a zip archive."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from balms_seg.annotations import shortened
from balms_seg.data.images.image_files import (
    IMAGE_SUFFIXES,
    archive_names,
    decode_text,
    read_bytes,
)
from balms_seg.data.images.image_records import ImageRecords
from balms_seg.wording import agreeing, counted

CLASSES_FILE = "classes.txt"
_NO_CLASSES = ("__MACOSX", "@eaDir")  # folders that macOS and network drives leave behind
_PARTS = {"train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"}


class _Content(NamedTuple):
    """What lies below the root, by names within it.

    Attributes:
        images: of each class folder, which may have none.
        beside: images that lie in no class folder.
        others: files of other kinds, by suffix.
        num_hidden: hidden files, and files in hidden folders.
    """

    images: dict[str, list[str]]
    beside: list[str]
    others: Counter[str]
    num_hidden: int


def read_class_folders(source: str, root: str) -> ImageRecords:
    """Read ROOT/CLASS/.../IMAGE; the folders' names are the classes, in alphabetical order.

    A file `classes.txt` in ROOT, a name a line, gives the classes and their order instead.

    Args:
        source: a folder or zip archive.
        root: the folder inside that holds the class folders; "" for the source itself.

    Raises:
        FileNotFoundError: the source has no such folder.
        ValueError: there are no class folders, or they lie elsewhere, or `classes.txt` does not
            name those that hold images.
    """
    prefix = f"{root}/" if root else ""
    where = f"{source}/{root}" if root else source
    every = _names(source)
    names = [name.removeprefix(prefix) for name in every if name.startswith(prefix)]
    is_there = bool(names) or not root
    names = [name for name in names if name]  # without the root itself
    if not is_there:
        there = sorted({name.partition("/")[0] for name in every if not name.startswith(".")})
        raise FileNotFoundError(
            f"Expected a folder {root} in {source}, but there is none; "
            + (f"it holds {shortened(there)}." if there else "it is empty.")
        )
    content = _sorted_out(names)
    class_names = _listed_classes(source, prefix) if CLASSES_FILE in names else None
    if not any(content.images.values()):
        raise ValueError(_nothing(where, content))
    if class_names is None:
        _require_class_level(where, content.images)
        class_names = tuple(sorted(content.images))
    else:
        _require_listed(where, content.images, class_names)
    records = [
        {"file_name": f"{source}/{prefix}{name}", "key": f"{prefix}{name}", "label": label}
        for label, class_name in enumerate(class_names)
        for name in content.images.get(class_name, ())
    ]
    return ImageRecords(records, class_names, notes=tuple(_notes(content, len(records))))


def _names(source: str) -> list[str]:
    """Files and, ending in a slash, folders; sorted."""
    return sorted(_walk(source) if os.path.isdir(source) else archive_names(source))


def _walk(source: str) -> Iterator[str]:
    seen: set[str] = set()  # a link may lead back to a folder above it
    for folder, below, files in os.walk(source, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        inside = os.path.relpath(folder, source).replace(os.sep, "/")
        start = "" if inside == "." else f"{inside}/"
        yield from (f"{start}{name}/" for name in below)
        yield from (f"{start}{name}" for name in files)


def _sorted_out(names: Iterable[str]) -> _Content:
    content = _Content({}, [], Counter(), 0)
    num_hidden = 0
    for name in names:
        folder, in_folder, rest = name.partition("/")
        is_file = not name.endswith("/")
        if any(part.startswith(".") or part in _NO_CLASSES for part in name.split("/")):
            num_hidden += is_file
            continue
        if in_folder:
            content.images.setdefault(folder, [])
        if not is_file or name == CLASSES_FILE:
            continue
        suffix = os.path.splitext(name)[1].lower()
        if suffix not in IMAGE_SUFFIXES:
            content.others[suffix or "no suffix"] += 1
        elif rest:
            content.images[folder].append(name)
        else:
            content.beside.append(name)
    return content._replace(num_hidden=num_hidden)


def _listed_classes(source: str, prefix: str) -> tuple[str, ...]:
    path = f"{source}/{prefix}{CLASSES_FILE}"
    lines = decode_text(read_bytes(path), path).splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise ValueError(f"{path} names {shortened(twice, 3)} more than once.")
    return names


def _nothing(where: str, content: _Content) -> str:
    if content.beside:
        return (
            f"Expected class folders, CLASS/IMAGE, in {where}, but its "
            f"{counted(len(content.beside), 'image')} ({shortened(content.beside, 2)}) "
            f"{agreeing(len(content.beside), 'lies', 'lie')} in no folder; name the folder above "
            "it, "
            "or give a list file with 'path label' in each line."
        )
    found = ""
    if content.others:
        found = f" Found: {_counted(content.others)}."
    elif content.images:
        found = f" Its folders {shortened(sorted(content.images), 3)} are empty."
    return f"Expected images in class folders, CLASS/IMAGE, in {where}, but there are none.{found}"


def _require_class_level(where: str, images: Mapping[str, Sequence[str]]) -> None:
    """Stop where the class folders lie one level deeper than the root says."""
    below = {}
    for folder, names in images.items():
        parts = [name.split("/") for name in names]
        if any(len(own) == 2 for own in parts):
            return  # an image lies directly in a folder
        below[folder] = {own[1] for own in parts}
    below = {folder: inner for folder, inner in below.items() if inner}
    shared = set.intersection(*below.values())
    if len(below) == 1 or shared or {folder.lower() for folder in below} <= _PARTS:
        inner = sorted(set.union(*below.values()))
        raise ValueError(
            f"{where} is one level above the class folders: it holds {shortened(sorted(below), 3)}"
            f", and these hold {shortened(inner, 3)}; name one of them as the root. (If they are "
            f"the classes, list them in {where}/{CLASSES_FILE}, a name a line.)"
        )


def _require_listed(
    where: str, images: Mapping[str, Sequence[str]], class_names: Sequence[str]
) -> None:
    known = set(class_names)
    unlisted = sorted(name for name, own in images.items() if own and name not in known)
    if unlisted:
        raise ValueError(
            f"{where}/{CLASSES_FILE} does not name {len(unlisted)} of the folders that hold "
            f"images: {shortened(unlisted)}; add them, or take the folders out."
        )


def _notes(content: _Content, num_images: int) -> Iterator[str]:
    parts = []
    if content.others:
        parts.append(f"{content.others.total()} with another suffix ({_counted(content.others)})")
    if content.beside:
        parts.append(f"{len(content.beside)} beside the class folders")
    if content.num_hidden:
        parts.append(counted(content.num_hidden, "hidden one"))
    if parts:
        are = agreeing(num_images, "is", "are")
        left_out = ", ".join(parts)
        yield f"{counted(num_images, 'image')} {are} read; left out are files: {left_out}."
    empty = sorted(name for name, own in content.images.items() if not own)
    if empty:
        hold = agreeing(len(empty), "holds", "hold")
        yield f"{counted(len(empty), 'class folder')} {hold} no image: {shortened(empty)}."


def _counted(others: Counter[str]) -> str:
    ordered = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{suffix} {number}" for suffix, number in ordered[:5])
