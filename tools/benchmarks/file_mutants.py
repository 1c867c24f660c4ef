"""A small valid pair of annotation and result files, and damaged copies of either."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

SIDE_PX = 64
_NASTY: tuple[Any, ...] = (
    *(None, True, False, [], {}, "", "abc", "7", "1.5", "é", [None], [[]], [[[]]], {"a": 1}),
    *(0, -1, 1, 3, 0.5, 1e9, -1e9, 1e308, 2**31, 2**63, 2**70, math.nan, math.inf, -math.inf),
)


@dataclass(frozen=True)
class Mutant:
    """A damaged file.

    Attributes:
        kind: "annotations" or "results".
        text: of the file.
        content: what it holds; None where the text itself was damaged.
    """

    kind: str
    text: bytes
    content: Any


def base_set(*, with_lists: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Four images, three classes, polygons and RLE, and detections that find some of it."""
    import pycocotools.mask as mask_utils

    rng = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    detections = []
    for image_id in range(1, 5):
        for class_id in (1, 2, 3)[: 2 + image_id % 2]:
            x, y, width, height = map(float, [*rng.integers(0, 30, 2), *rng.integers(10, 30, 2)])
            ring = [x, y, x + width, y, x + width, y + height, x, y + height]
            mask = mask_utils.frPyObjects([ring], SIDE_PX, SIDE_PX)[0]
            mask = {"size": [SIDE_PX, SIDE_PX], "counts": mask["counts"].decode()}
            common = {"image_id": image_id, "category_id": class_id}
            shape = {"bbox": [x, y, width, height], "segmentation": [ring]}
            number = len(annotations) + 1
            if number % 4 == 0:
                shape["segmentation"] = mask
            area = width * height
            annotations.append({"id": number, **common, **shape, "area": area, "iscrowd": 0})
            moved = {"bbox": [x + 1, y, width, height], "segmentation": mask}
            detections.append({**common, **moved, "score": round(float(rng.random()), 3)})
            if number % 3 == 0:
                wrong = {"image_id": image_id, "category_id": 1 + class_id % 2}
                detections.append({**wrong, **moved, "score": 0.4})
    images: list[dict[str, Any]] = [
        {"id": i, "file_name": f"{i}.png", "height": SIDE_PX, "width": SIDE_PX} for i in range(1, 5)
    ]
    categories = [{"id": k, "name": f"class {k}", "frequency": "rcf"[k - 1]} for k in (1, 2, 3)]
    if with_lists:
        for image in images:
            image["neg_category_ids"] = [3] if image["id"] % 2 == 0 else []
            image["not_exhaustive_category_ids"] = [1] if image["id"] == 2 else []
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def mutants(kind: str, content: Any, rng: np.random.Generator) -> Iterator[Mutant]:
    """Endlessly many damaged copies."""
    while True:
        changed = copy.deepcopy(content)
        for _ in range(rng.integers(1, 4)):
            _change_value(changed, rng)
        if rng.random() < 0.8:
            yield Mutant(kind, json.dumps(changed).encode("utf-8", "surrogatepass"), changed)
        else:
            yield Mutant(kind, _change_text(json.dumps(content), rng), None)


def _change_value(content: Any, rng: np.random.Generator) -> None:
    """Damage one place of a json, in place."""
    node, steps = content, int(rng.integers(1, 7))
    parent, key = None, None
    for _ in range(steps):
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        parent, key = node, keys[rng.integers(len(keys))]
        if not isinstance(parent[key], dict | list):
            break
        node = parent[key]
    if parent is None:
        return
    change = _CHANGES[rng.integers(len(_CHANGES))]
    change(parent, key, rng)


def _delete(parent: Any, key: Any, rng: np.random.Generator) -> None:
    del parent[key]


def _wrap(parent: Any, key: Any, rng: np.random.Generator) -> None:
    parent[key] = [parent[key]]


def _take_from_list(parent: Any, key: Any, rng: np.random.Generator) -> None:
    value = parent[key]
    if isinstance(value, list) and value:
        parent[key] = value[rng.integers(len(value))]


def _make_text(parent: Any, key: Any, rng: np.random.Generator) -> None:
    if isinstance(parent[key], int | float):
        parent[key] = str(parent[key])


def _change_character(parent: Any, key: Any, rng: np.random.Generator) -> None:
    value = parent[key]
    if isinstance(value, str) and value:
        place = int(rng.integers(len(value)))
        parent[key] = value[:place] + chr(int(rng.integers(32, 127))) + value[place + 1 :]


def _cut(parent: Any, key: Any, rng: np.random.Generator) -> None:
    value = parent[key]
    if isinstance(value, list | str):
        parent[key] = value[: rng.integers(len(value) + 1)]


def _repeat(parent: Any, key: Any, rng: np.random.Generator) -> None:
    if isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))


def _scale(parent: Any, key: Any, rng: np.random.Generator) -> None:
    if isinstance(parent[key], int | float):
        parent[key] = float(parent[key]) * float(rng.choice([-1, 0.001, 2, 1e6]))


def _replace(parent: Any, key: Any, rng: np.random.Generator) -> None:
    parent[key] = copy.deepcopy(_NASTY[rng.integers(len(_NASTY))])


_CHANGES = (
    *(_delete, _wrap, _take_from_list, _make_text, _change_character, _cut, _repeat, _scale),
    *(_replace, _replace),
)


def _change_text(text: str, rng: np.random.Generator) -> bytes:
    """Damage the text of a json."""
    choice = rng.integers(5)
    place = int(rng.integers(len(text)))
    if choice == 0:
        return text[:place].encode()
    if choice == 1:
        return text.encode(rng.choice(["utf-8-sig", "utf-16", "utf-16-le", "utf-32"]))
    if choice == 2:
        raw = bytearray(text.encode())
        raw[place] = int(rng.integers(256))
        return bytes(raw)
    if choice == 3:
        return (
            text[:place] + rng.choice(["{", "]", ",", '"', "NaN", "\\ud800", "\0"]) + text[place:]
        ).encode()
    return (text + text[place:]).encode()
