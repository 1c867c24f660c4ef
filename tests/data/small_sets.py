"""Small annotation files with images, and what the tests say about them."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

from PIL import Image

_numbers = itertools.count()

SQUARE = [[2.0, 2.0, 10.0, 2.0, 10.0, 10.0, 2.0, 10.0]]
LINE = [2.0, 2.0, 4.0, 4.0, 9.0, 9.0]


def annotation(annotation_id: int, image_id: int, category_id: int, **fields: Any) -> dict:
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [2.0, 2.0, 8.0, 8.0],
        "area": 64.0,
        "segmentation": SQUARE,
        **fields,
    }


def coco_style() -> dict:
    """Three images, ids with gaps and out of order; "cat" in two images, "dog" in one."""
    return {
        "images": [
            {"id": 30, "file_name": "c.png", "height": 16, "width": 20},
            {"id": 10, "file_name": "a.png", "height": 16, "width": 20},
            {"id": 20, "file_name": "b.png", "height": 16, "width": 20},
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            annotation(1, 10, 3),
            annotation(2, 10, 7),
            annotation(3, 20, 3),
        ],
    }


def lvis_style() -> dict:
    """The same with all of LVIS's fields."""
    content = coco_style()
    for image in content["images"]:
        image.update(neg_category_ids=[7], not_exhaustive_category_ids=[3])
    content["categories"] = [
        {"id": 7, "name": "dog", "frequency": "r", "image_count": 1, "instance_count": 1},
        {"id": 3, "name": "cat", "frequency": "f", "image_count": 2, "instance_count": 2},
    ]
    return content


def changed(content: dict, section: str, index: int, **fields: Any) -> dict:
    """A copy with fields of one entry replaced; a field given as None is removed."""
    content = copy.deepcopy(content)
    entry = content[section][index]
    entry.update(fields)
    for field, value in fields.items():
        if value is None:
            del entry[field]
    return content


def write_set(folder: Path, content: dict, file_name: str = "annotations.json") -> Path:
    """Write the json, and its images into `folder`/images."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for image in content["images"]:
        Image.new("RGB", (20, 16), (90, 120, 30)).save(images / image["file_name"])
    path = folder / file_name
    path.write_text(json.dumps(content))
    return path


def new_name() -> str:
    """A data set name that no other test uses: detectron2's catalogue is global."""
    return f"small_set_{next(_numbers)}"
