"""Takes from a result file of any size the detections that count, and nothing else, into memory.

The file is read twice: first for the image, class and score of each detection, which decide what
counts, then for those detections themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from balms_seg.annotations.json_file import paused_garbage_collection
from balms_seg.evaluation.lvis.detections import top_of_each
from balms_seg.evaluation.lvis.ground_truth import GroundTruth
from balms_seg.evaluation.predictions.detection_checks import (
    check_mask_sizes,
    finite_scores,
    look_up,
)
from balms_seg.evaluation.predictions.detection_file import iterate_detections

_SHAPE_KEYS = ("bbox", "segmentation")
_GIB = 1 << 30


@dataclass(frozen=True, eq=False)
class StoredDetections:
    """What an evaluation needs of a result file.

    Attributes:
        number: detections in the file.
        shape_keys: of "bbox" and "segmentation", those that every detection has.
        capped: detections among the best of their image that LVIS judges there.
        best_of_classes: the same of those among the best of their class; empty if not asked for.
    """

    number: int
    shape_keys: tuple[str, ...]
    capped: list[dict[str, Any]]
    best_of_classes: list[dict[str, Any]]


def read_stored_detections(
    path: str | Path,
    ground_truth: GroundTruth,
    *,
    max_detections: int,
    max_per_class: int | None = None,
    with_masks: bool = True,
) -> StoredDetections:
    """Read the detections that count, by the rules of `select_detections`.

    Args:
        path: json list of detections, see `read_detections`.
        ground_truth: says which images and classes there are and which classes count where.
        max_detections: places an image has.
        max_per_class: places a class has over all images; None keeps none of them.
        with_masks: whether masks are going to be evaluated, and thus have to fit their images.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is malformed, or holds detections of other images or classes, scores
            that are not finite or masks of another size than their image; or what counts does not
            fit into memory.
    """
    summary = _Summary.read(path, ground_truth, with_masks=with_masks)
    capped = top_of_each(summary.images, summary.scores, max_detections)
    best = np.zeros(0, dtype=np.int64)
    if max_per_class is not None:
        best = top_of_each(summary.classes, summary.scores, max_per_class)
    is_verified = ground_truth.is_verified[summary.images, summary.classes]
    is_capped, is_best = (np.zeros(len(is_verified), dtype=bool) for _ in range(2))
    is_capped[capped], is_best[best] = True, True
    is_capped &= is_verified
    is_best &= is_verified
    is_kept = is_capped | is_best
    _check_memory(path, int(is_kept.sum()), summary.bytes_each)
    with paused_garbage_collection():
        kept = list(_kept(path, is_kept))
    return StoredDetections(
        number=len(is_kept),
        shape_keys=summary.shape_keys,
        capped=list(compress(kept, is_capped[is_kept].tolist())),
        best_of_classes=list(compress(kept, is_best[is_kept].tolist())),
    )


@dataclass(frozen=True, eq=False)
class _Summary:
    """Image, class and score of all n detections, and what one takes in memory."""

    images: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    shape_keys: tuple[str, ...]
    bytes_each: float

    @classmethod
    def read(cls, path: str | Path, ground_truth: GroundTruth, *, with_masks: bool) -> _Summary:
        known_ids = {
            "image_id": ground_truth.image_ids,
            "category_id": ground_truth.category_ids,
        }
        images: list[np.ndarray] = []
        classes: list[np.ndarray] = []
        scores: list[np.ndarray] = []
        shape_keys, start, bytes_each = set(_SHAPE_KEYS), 0, 0.0
        for batch in iterate_detections(path):
            found: dict[str, np.ndarray] = {}
            for key, known in known_ids.items():
                ids = [entry[key] for entry in batch]
                found[key] = look_up(batch, key, ids, known, start=start)
            images.append(found["image_id"].astype(np.int32))
            classes.append(found["category_id"].astype(np.int32))
            scores.append(finite_scores(batch, [e["score"] for e in batch], start=start))
            shape_keys = {key for key in shape_keys if all(key in entry for entry in batch)}
            if with_masks:
                places = [i for i, entry in enumerate(batch) if "segmentation" in entry]
                check_mask_sizes(
                    [batch[i] for i in places],
                    [batch[i]["segmentation"] for i in places],
                    found["image_id"][places],
                    ground_truth.image_sizes,
                )
            bytes_each = bytes_each or sum(map(_bytes_of, batch)) / len(batch)
            start += len(batch)
        return cls(
            images=np.concatenate([np.zeros(0, dtype=np.int32), *images]),
            classes=np.concatenate([np.zeros(0, dtype=np.int32), *classes]),
            scores=np.concatenate([np.zeros(0), *scores]),
            shape_keys=tuple(key for key in _SHAPE_KEYS if key in shape_keys),
            bytes_each=bytes_each,
        )


def _kept(path: str | Path, is_kept: np.ndarray) -> Iterator[dict[str, Any]]:
    start = 0
    for batch in iterate_detections(path):
        yield from compress(batch, is_kept[start : start + len(batch)].tolist())
        start += len(batch)


def _bytes_of(value: Any) -> int:
    """Memory of a json value; keys and short names, which values share, left out."""
    size = sys.getsizeof(value)
    if isinstance(value, Mapping):
        size += sum(map(_bytes_of, value.values()))
    elif isinstance(value, list):
        size += sum(map(_bytes_of, value))
    return size


def _check_memory(path: str | Path, number: int, bytes_each: float) -> None:
    available = available_memory_bytes()
    if available is not None and number * bytes_each > available:
        raise ValueError(
            f"Expected room for the {number:,} detections in {path} that count, about "
            f"{number * bytes_each / _GIB:.1f} GiB, but {available / _GIB:.1f} GiB of memory "
            "remain; evaluate on a larger machine, or keep fewer an image (--max-detections)."
        )


def available_memory_bytes() -> int | None:
    """Memory that this process may still take; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(one.split()[1]) << 10 for one in lines if one.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    try:  # the limit of a container
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return free
    return min(free, limit - used)
