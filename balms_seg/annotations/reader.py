"""Reading an annotation file once, whoever asks for it how often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from balms_seg.progress import with_progress
from balms_seg.wording import plain_path

from .annotations import Annotations
from .build import build_annotations
from .cache import content_key, default_cache_dir, load, load_or_build
from .errors import AnnotationError
from .json_file import check_is_file
from .sections import read_sections, sections_of

MIN_CACHED_BYTES = 1 << 20  # smaller files are read as fast as their cache
_NUM_KEPT = 8


def read_annotations(json_file: str | Path) -> Annotations:
    """Read a COCO- or LVIS-style json, check it, and fill in what it leaves out.

    Within a process a file is read once, until it changes. Large ones are kept in the user's cache
    folder as arrays, which all processes of a machine share.

    Args:
        json_file: a path, or anything that detectron2's `PathManager` resolves.

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: it cannot be used; the message names the entry and the field.
    """
    path = local_path(json_file)
    try:
        path = check_is_file(path)
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise AnnotationError(str(error)) from None
    state = path.stat()
    # The time of the last change of state cannot be set, unlike that of the content.
    times = state.st_mtime_ns, state.st_ctime_ns
    return _read(_FileState(path.resolve(), state.st_size, times, plain_path(path)))


@dataclass(frozen=True)
class _FileState:
    """A file as it was; equal whatever the spelling of its path, which messages have."""

    resolved: Path
    size: int
    times: tuple[int, int]
    path: Path = field(compare=False)


@lru_cache(maxsize=_NUM_KEPT)
def _read(state: _FileState) -> Annotations:
    path = state.path
    if state.size < MIN_CACHED_BYTES:
        return _build(path)
    kept = load_or_build(content_key(path), default_cache_dir(), lambda: _build(path))
    return _named(kept, str(path))


def _build(path: Path) -> Annotations:
    def progress(parts: Iterable[int], total: int) -> Iterable[int]:
        return with_progress(parts, label=f"reading {path.name}", unit="annotation", total=total)

    return build_annotations(read_sections(path), str(path), progress)


def _named(annotations: Annotations, source: str) -> Annotations:
    """The same under its path, for what is kept may come from a copy of the file elsewhere."""
    return replace(annotations, facts=replace(annotations.facts, source=source))


@lru_cache(maxsize=_NUM_KEPT)
def open_annotations(cache_file: Path, source: str) -> Annotations:
    """Map arrays that another process has checked; read the json where they are gone."""
    try:
        return _named(load(cache_file), source)
    except (OSError, ValueError):
        return read_annotations(source)


def annotations_of(source: str | Path | Mapping[str, Any] | Annotations) -> Annotations:
    """Annotations of a path, of a json's content, or as they are."""
    if isinstance(source, Annotations):
        return source
    if isinstance(source, Mapping):
        name = "The ground truth"
        return build_annotations(sections_of(source, name), name)
    return read_annotations(source)


def local_path(json_file: str | Path) -> Path:
    """Where the file lies on this machine; `~` and detectron2's path prefixes are resolved."""
    name = str(json_file)
    if "://" in name:
        from detectron2.utils.file_io import PathManager

        return Path(PathManager.get_local_path(name))
    return Path(name).expanduser()
