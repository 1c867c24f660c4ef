"""Images that are trained on and tested on: one file in several sets."""

from __future__ import annotations

import filecmp
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence

from balms_seg.wording import agreeing, counted


def real_files(paths: Iterable[str]) -> set[str]:
    """The files that paths lead to, whatever links are on the way.

    One listing a folder tells which of its files are links, instead of a call a file.
    """
    folders: dict[str, tuple[str, set[str]]] = {}
    found = set()
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder), _links_of(folder)
        place, links = folders[folder]
        found.add(os.path.realpath(path) if name in links else os.path.join(place, name))
    return found


def files_of_both(files: set[str], others: set[str]) -> set[str]:
    """Those of `files` that are among `others`, or have a copy of their own name there.

    Copies under another name are not looked for. Files are read only where name and size agree.

    Args:
        files: as `real_files` gives them.
        others: likewise.
    """
    shared = files & others
    named = defaultdict(list)
    for path in others:
        named[os.path.basename(path)].append(path)
    for path in files - shared:
        if any(_is_copy(path, other) for other in named.get(os.path.basename(path), ())):
            shared.add(path)
    return shared


def describe_shared(
    number: int, num_images: int, name: str, trained_on: Sequence[str], *, metric: str = "AP"
) -> str:
    """What it means that images of a set are trained on, too.

    Args:
        number: of those images.
        num_images: of the set.
        name: of the set.
        trained_on: names of the training sets that have them.
        metric: that is measured on the set.
    """
    return (
        f"{number} of {counted(num_images, 'image')} of {name} {agreeing(number, 'is', 'are')} "
        f"also in {', '.join(trained_on)}: {metric} there is of images trained on."
    )


def _is_copy(path: str, other: str) -> bool:
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:  # of what is not there, others speak
        return False


def _links_of(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_symlink()}
    except OSError:  # nothing is there, or it lies on no disk, as in an archive
        return set()
