"""Where the images of a json lie, also where their files have another name than it gives.

Tools write paths of the machine they ran on: with Windows separators, folders that are not here,
%20 for spaces, another letter case, or accents in another Unicode form.
"""

from __future__ import annotations

import logging
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from urllib.parse import unquote

from .annotations import Annotations

logger = logging.getLogger(__name__)

# What may differ in the last part of a name, each with what undoes it.
_DIFFERENCES: dict[str, Callable[[str], str]] = {
    "%20 and the like": unquote,
    "the Unicode form (NFC, NFD) of accents": lambda name: unicodedata.normalize("NFC", name),
    "letter case": str.casefold,
}


@dataclass(frozen=True)
class ImageFolder:
    """The folder that names of images are relative to; the one way from a name to a file.

    Attributes:
        root: the folder.
        moved: paths in it that do not exist, each with the file that stands in for it.
    """

    root: str
    moved: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, annotations: Annotations, root: str | Path, match: str = "exact") -> ImageFolder:
        """The folder of a json's images.

        Args:
            annotations: of the json.
            root: the folder.
            match: "exact", or "basename" to take images that do not exist from the file below the
                folder that bears the last part of their name, see `find_alike`.
        """
        return _matched(annotations, str(root)) if match == "basename" else cls(str(root))

    def path(self, name: str) -> str:
        """The file of an image by its name in the json."""
        path = os.path.join(self.root, name)
        return self._moved.get(path, path)

    @cached_property
    def _moved(self) -> dict[str, str]:
        return dict(self.moved)


@lru_cache(maxsize=8)
def _matched(annotations: Annotations, root: str) -> ImageFolder:
    paths = annotations.image_table.paths
    given = [os.path.join(root, paths[image]) for image in range(len(paths))]
    found = find_alike([path for path in given if not os.path.isfile(path)], root)
    if found:
        logger.info(
            "%d of %d images of %s were found below %s by the last part of their names.",
            *(len(found), len(given), annotations.facts.source, root),
        )
    return ImageFolder(root, tuple(found.items()))


def find_alike(missing: Sequence[str], root: str | Path) -> dict[str, str]:
    """The file for each name that there is one for, by the last part of both.

    That part is compared without what tools change in names. Of several files the one with the
    most folders in common is taken. A name has no file where two fit equally well, and where
    another name would get the same.

    Args:
        missing: paths as the annotations give them, joined to the folder.
        root: folder of the images; it is searched with all folders in it.
    """
    if not missing:
        return {}
    by_last_part: dict[str, list[str]] = defaultdict(list)
    for folder, _, names in os.walk(root):
        for name in names:
            by_last_part[_plain(name)].append(os.path.join(folder, name))
    found = {}
    for name in missing:
        candidates = by_last_part.get(_parts(name)[-1], [])
        shared = [_num_shared_parts(name, candidate) for candidate in candidates]
        if candidates and shared.count(max(shared)) == 1:
            found[name] = candidates[shared.index(max(shared))]
    times = Counter(found.values())
    return {name: file for name, file in found.items() if times[file] == 1}


def describe_alike(missing: Sequence[str], root: str | Path) -> str:
    """Where files of the missing names lie under others: a sentence on it, else nothing."""
    found = find_alike(missing, root)
    if not found:
        return ""
    name, file = next(iter(found.items()))
    number = "All of them" if len(found) == len(missing) else f"{len(found)} of them"
    return (
        f" {number} lie in {root} under the last part of their names, {name!r} as "
        f"{os.path.relpath(file, root)!r}: what differs is {_difference(name, file)}. Correct "
        "the names in the json or the folder, or set DATASETS.MATCH_FILE_NAMES to basename to "
        "take them so."
    )


def _difference(name: str, file: str) -> str:
    """How a name and its file's differ, in words."""
    last, other = name.replace("\\", "/").rsplit("/", 1)[-1], os.path.basename(file)
    kinds = ["Windows separators"] if "\\" in name else []
    kinds += [k for k in _DIFFERENCES if _plain(last, keep=k) != _plain(other, keep=k)]
    return ", ".join(kinds) or "the folders"


def _num_shared_parts(name: str, file: str) -> int:
    pairs = zip(reversed(_parts(name)), reversed(_parts(file)), strict=False)
    number = 0
    for own, other in pairs:
        if own != other:
            break
        number += 1
    return number


def _parts(name: str) -> list[str]:
    return [_plain(part) for part in name.replace("\\", "/").split("/")]


def _plain(part: str, *, keep: str | None = None) -> str:
    """A part of a name without what tools change in it; with one kind of change kept."""
    for kind, undo in _DIFFERENCES.items():
        part = part if kind == keep else undo(part)
    return part
