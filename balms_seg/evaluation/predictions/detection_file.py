"""Reads result files in the LVIS format and checks that their entries have the right form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from balms_seg.annotations.json_file import paused_garbage_collection, read_json
from balms_seg.annotations.json_list import is_json_list, iterate_json_batches
from balms_seg.progress import with_progress
from balms_seg.wording import agreeing, counted

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
            entry has another form.
    """
    with paused_garbage_collection():
        return [detection for batch in iterate_detections(path) for detection in batch]


def iterate_detections(path: str | Path) -> Iterator[list[dict[str, Any]]]:
    """The same in batches, one in memory at a time; the same errors."""
    start = 0
    for batch in iterate_entries(path, msgspec.json.Decoder(list).decode):
        _check_entries(batch, Path(path), start)
        start += len(batch)
        yield batch


def iterate_entries(path: str | Path, decode: Callable[[bytes], list[Any]]) -> Iterator[list[Any]]:
    """What a json list holds, in batches, whatever form it has; see `iterate_json_batches`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no json list.
    """
    path = Path(path)
    if path.suffix in (".pkl", ".pickle"):
        raise ValueError(
            f"{path} is a pickle, which is not read, since reading one runs what is in it. "
            "mmdetection writes json with --format-only and outfile_prefix PREFIX; give "
            "PREFIX.bbox.json or PREFIX.segm.json."
        )
    if not is_json_list(path):
        raise ValueError(
            f"Expected a list of detections in {path}, but got {_describe(read_json(path))}; give "
            "the result file itself, in the LVIS or COCO results format."
        )
    return iter(
        with_progress(
            iterate_json_batches(path, decode),
            label=f"reading {path.name}",
            unit="batch",
        )
    )


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
                f"{expectation}, but {len(bad)} of {counted(len(detections), 'detection')}{behind} "
                f"in {path} {agreeing(len(bad), 'breaks', 'break')} this, the first at position "
                f"{start + bad[0]}: {first[:200]}{'...' if len(first) > 200 else ''}."
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
