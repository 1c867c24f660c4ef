"""Reads result files in the LVIS format and checks that their entries have the right form."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from balms_seg.annotations.json_file import paused_garbage_collection, read_json
from balms_seg.annotations.json_list import is_json_list, iterate_json_list
from balms_seg.progress import with_progress

BATCH_SIZE = 10_000
_NUM_NAMED = 5
_NUMBERS = (int, float)


def read_detections(path: str | Path) -> list[dict[str, Any]]:
    """Read a json list of detections, of this or any other program.

    Each is an object with image_id, category_id, score and bbox (x, y, width, height in pixels) or
    segmentation (RLE). Whether images, categories and masks belong to a data set is checked where
    they are evaluated.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty, truncated or not json (the message has the byte), or an
            entry has another form, or several have the same `id`.
    """
    with paused_garbage_collection():
        return [detection for batch in iterate_detections(path) for detection in batch]


def iterate_detections(path: str | Path) -> Iterator[list[dict[str, Any]]]:
    """The same in batches of `BATCH_SIZE`, one in memory at a time; the same errors."""
    path = Path(path)
    if not is_json_list(path):
        raise ValueError(
            f"Expected a list of detections in {path}, but got {_describe(read_json(path))}; give "
            "the result file itself, in the LVIS or COCO results format."
        )
    entries = iterate_json_list(path)
    ids = _Ids()
    start = 0
    for batch in with_progress(
        iter(lambda: list(islice(entries, BATCH_SIZE)), []),
        label="reading detections",
        unit="batch",
    ):
        _check_entries(batch, path, start)
        ids.add(batch)
        start += len(batch)
        yield batch
    ids.reject_repeated(path)


def _describe(content: Any) -> str:
    if isinstance(content, dict):
        return f"an object with the keys {sorted(content)[:_NUM_NAMED]}"
    return f"a {type(content).__name__}"


def _check_entries(detections: list[Any], path: Path, start: int) -> None:
    def reject(is_right: Callable[[Any], bool], expectation: str) -> None:
        bad = [i for i, detection in enumerate(detections) if not is_right(detection)]
        if bad:
            first = str(detections[bad[0]])
            behind = f" from position {start}" if start else ""
            raise ValueError(
                f"{expectation}, but {len(bad)} of {len(detections)} detections{behind} in {path} "
                f"break this, the first at position {start + bad[0]}: {first[:200]}"
                f"{'...' if len(first) > 200 else ''}."
            )

    reject(lambda d: isinstance(d, dict), "Expected every detection to be an object")
    for key in ("image_id", "category_id", "score"):
        reject(partial(_has_key, key), f"Expected '{key}' in each")
    reject(lambda d: isinstance(d["score"], _NUMBERS), "Expected every score to be a number")
    reject(lambda d: "bbox" not in d or _is_box(d["bbox"]), "Expected 4 numbers")
    reject(
        lambda d: "segmentation" not in d or _is_rle(d["segmentation"]),
        "Expected every segmentation to be an RLE with 'size' and 'counts'",
    )


def _has_key(key: str, detection: Any) -> bool:
    return key in detection


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(isinstance(v, _NUMBERS) for v in box)


def _is_rle(segmentation: Any) -> bool:
    return (
        isinstance(segmentation, dict) and "size" in segmentation and "counts" in segmentation
    ) or isinstance(segmentation, list)


class _Ids:
    """All values of `id`; whole numbers, as they nearly always are, take eight bytes each."""

    def __init__(self) -> None:
        self._numbers = array("q")
        self._others: list[str] = []

    def add(self, detections: list[dict[str, Any]]) -> None:
        for detection in detections:
            id_ = detection.get("id")
            if type(id_) is int and abs(id_) < 1 << 63:
                self._numbers.append(id_)
            elif id_ is not None:
                self._others.append(repr(id_))

    def reject_repeated(self, path: Path) -> None:
        for ids in (np.array(self._numbers, dtype=np.int64), np.array(self._others)):
            different, times = np.unique(ids, return_counts=True)
            repeated = different[times > 1]
            if len(repeated):
                raise ValueError(
                    f"Expected different ids, but {len(repeated)} of {len(different)} ids in "
                    f"{path} stand for several detections, the first "
                    f"{repeated[:_NUM_NAMED].tolist()}; were two result files joined? Number the "
                    "detections anew, or leave out 'id', which the format does not need."
                )
