"""Class statistics kept on disk, keyed by the content they were computed from.

A cache never fails a run: what cannot be read is computed again with a warning, what cannot be
written is returned with a warning. Writing is atomic, so processes may share the folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from balms_seg.annotations.annotation_counts import flatten_annotations
from balms_seg.annotations.json_file import check_is_file
from balms_seg.class_statistics.statistics import ClassStatistics

logger = logging.getLogger(__name__)

_FORMAT_VERSION = 1  # part of the key: raise it when the meaning of a count changes


def cached_statistics(
    dataset_dicts: Sequence[Mapping[str, Any]],
    num_classes: int,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> ClassStatistics:
    """`ClassStatistics.from_dataset_dicts`, kept under a hash of what was counted.

    Args:
        dataset_dicts: see `ClassStatistics.from_dataset_dicts`.
        num_classes: K.
        cache_dir: a folder; ${XDG_CACHE_HOME:-~/.cache}/balms_seg by default.
        options: keyword arguments of `ClassStatistics.from_dataset_dicts`.

    Returns:
        The statistics.
    """
    image_index, class_id = flatten_annotations(dataset_dicts)
    plain = {key: value for key, value in options.items() if key != "repeat_factors"}
    is_labelled = "label" in dataset_dicts[0] if len(dataset_dicts) else False
    settings = [_FORMAT_VERSION, num_classes, is_labelled, plain]
    digest = hashlib.sha256(json.dumps(settings, default=list, sort_keys=True).encode())
    factors = np.asarray(options.get("repeat_factors", ()), np.float64)
    for array in (image_index, class_id, factors):
        digest.update(f"{array.shape}".encode())
        digest.update(array.tobytes())
    return _load_or_compute(
        digest.hexdigest(),
        cache_dir,
        lambda: ClassStatistics.from_dataset_dicts(dataset_dicts, num_classes, **options),
    )


def cached_statistics_from_json(
    path: str | Path, cache_dir: str | Path | None = None, *, empty_classes: str = "floor"
) -> ClassStatistics:
    """`ClassStatistics.from_json`, kept under a hash of the file; raises as that does."""
    path = check_is_file(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(f"{_FORMAT_VERSION} {empty_classes}".encode())
    return _load_or_compute(
        digest.hexdigest(),
        cache_dir,
        lambda: ClassStatistics.from_json(path, empty_classes=empty_classes),
    )


def default_cache_dir() -> Path:
    """The user's cache folder for this package."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "balms_seg"


def _load_or_compute(
    key: str, cache_dir: str | Path | None, compute: Callable[[], ClassStatistics]
) -> ClassStatistics:
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    path = folder / f"class_statistics_{key[:32]}.json"
    try:
        return ClassStatistics.from_dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("Ignoring the unreadable cache %s (%r); counting again.", path, error)
    statistics = compute()
    try:
        _write_atomically(path, json.dumps(statistics.to_dict()))
    except OSError as error:
        logger.warning("Could not write the cache %s (%s); counting again next time.", path, error)
    return statistics


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with open(descriptor, "w") as file:
            file.write(text)
        os.replace(name, path)
    except OSError:
        os.unlink(name)
        raise
