"""Which image a result file means: by id or, as some programs write, by the name of its file."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from balms_seg.annotations.arrays import Texts
from balms_seg.wording import counted

logger = logging.getLogger(__name__)

_NUM_NAMED = 5


def _stem(name: str) -> str:
    return posixpath.splitext(_last_part(name))[0]


def _last_part(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def _without_folder(value: Any) -> Any:
    """A result file's name for an image without the folder that its program found it in."""
    return _last_part(value) if isinstance(value, str) else value


def _number(name: str) -> int | str:
    """The stem as a number where it is one, as ultralytics writes it."""
    stem = _stem(name)
    return int(stem) if stem.isascii() and stem.isdigit() else stem


_READINGS: dict[str, Callable[[str], Any]] = {
    "file names": str,
    "the last parts of file names": _last_part,
    "file names without folder and suffix": _stem,
    "file names without folder and suffix, as numbers": _number,
}


def resolve_images(
    found: Sequence[Any],
    image_ids: Sequence[Any],
    image_names: Sequence[str] | Texts,
    *,
    source: str,
) -> list[int]:
    """The image index of each different `image_id` of a result file, -1 where it is unknown.

    All are ids of the ground truth; else all are names of its files in one of a few readings, which
    is said in one line.

    Args:
        found: the different values, canonical.
        image_ids: of the ground truth, canonical.
        image_names: of its images, empty where it does not say.
        source: the file, for the message.
    """
    by_id = {id_: index for index, id_ in enumerate(image_ids)}
    indices = [by_id.get(value, -1) for value in found]
    names = [image_names[index] for index in range(len(image_names))] if -1 in indices else []
    if not any(names):
        return indices
    for what, read in _READINGS.items():
        by_name = _unique(map(read, names))
        values = found if read is str else list(map(_without_folder, found))
        named = [by_name.get(value, -1) for value in values]
        if -1 not in named:
            logger.warning(
                "%s names images by %s, such as %r; they were matched so.", source, what, found[0]
            )
            return named
    return indices


def _unique(names: Iterable[Any]) -> dict[Any, int]:
    """Index of each name; one that several images have stands for none."""
    places: dict[Any, int] = {}
    for index, name in enumerate(names):
        places[name] = -1 if name in places else index
    return places


def unknown_ids_message(key: str, found: Sequence[Any], known: Sequence[Any], number: int) -> str:
    """What to say where no detection has a known id."""
    return (
        "Expected detections on the images and categories of the ground truth, but none of the "
        f"{counted(number, 'detection')} has a known {key}: the first has {found[0]!r}, the ground "
        f"truth {list(known)[:_NUM_NAMED]} and so on. These are results of another data set."
    )
