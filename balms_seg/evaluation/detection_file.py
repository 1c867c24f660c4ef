"""Reads a result file in the LVIS format and checks that its entries have the right form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from balms_seg.json_file import read_json

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
    path = Path(path)
    content = read_json(path)
    if not isinstance(content, list):
        raise ValueError(
            f"Expected a list of detections in {path}, but got {_describe(content)}; give the "
            "result file itself, in the LVIS or COCO results format."
        )
    _check_entries(content, path)
    return content


def _describe(content: Any) -> str:
    if isinstance(content, dict):
        return f"an object with the keys {sorted(content)[:_NUM_NAMED]}"
    return f"a {type(content).__name__}"


def _check_entries(detections: list[Any], path: Path) -> None:
    _reject(
        detections, path, lambda d: isinstance(d, dict), "Expected every detection to be an object"
    )
    for key in ("image_id", "category_id", "score"):
        _reject(detections, path, lambda d, key=key: key in d, f"Expected '{key}' in each")
    _reject(
        detections,
        path,
        lambda d: isinstance(d["score"], _NUMBERS),
        "Expected every score to be a number",
    )
    _reject(detections, path, lambda d: "bbox" not in d or _is_box(d["bbox"]), "Expected 4 numbers")
    _reject(
        detections,
        path,
        lambda d: "segmentation" not in d or _is_rle(d["segmentation"]),
        "Expected every segmentation to be an RLE with 'size' and 'counts'",
    )
    _reject_repeated_ids(detections, path)


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(isinstance(v, _NUMBERS) for v in box)


def _is_rle(segmentation: Any) -> bool:
    return (
        isinstance(segmentation, dict) and "size" in segmentation and "counts" in segmentation
    ) or isinstance(segmentation, list)


def _reject(
    detections: list[Any], path: Path, is_right: Callable[[Any], bool], expectation: str
) -> None:
    bad = [i for i, detection in enumerate(detections) if not is_right(detection)]
    if bad:
        first = str(detections[bad[0]])
        raise ValueError(
            f"{expectation}, but {len(bad)} of {len(detections)} detections in {path} break this, "
            f"the first at position {bad[0]}: {first[:200]}{'...' if len(first) > 200 else ''}."
        )


def _reject_repeated_ids(detections: list[dict[str, Any]], path: Path) -> None:
    ids = Counter(detection["id"] for detection in detections if "id" in detection)
    repeated = [id_ for id_, times in ids.items() if times > 1]
    if repeated:
        raise ValueError(
            f"Expected different ids, but {len(repeated)} of {len(ids)} ids in {path} stand for "
            f"several detections, the first {repeated[:_NUM_NAMED]}; were two result files joined? "
            "Number the detections anew, or leave out 'id', which the format does not need."
        )
