"""A small annotation file, and changed copies of it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

HEIGHT, WIDTH = 16, 20
SQUARE = [[2.0, 2.0, 10.0, 2.0, 10.0, 10.0, 2.0, 10.0]]
# The square's runs, column by column: 2 columns and 2 rows of background, then 8 of each column.
SQUARE_RUNS = [2 * HEIGHT + 2, *[8, 8] * 7, 8, 6 + 10 * HEIGHT]


def content() -> dict[str, Any]:
    """Two images, two classes, three squares of 8 x 8 px."""
    return {
        "images": [
            {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
            {"id": 2, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": 5, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": [2.0, 2.0, 8.0, 8.0],
                "area": 64.0,
                "segmentation": SQUARE,
                "iscrowd": 0,
            }
            for number, image, category in ((1, 1, 5), (2, 1, 7), (3, 2, 5))
        ],
    }


def with_annotation(**fields: Any) -> dict[str, Any]:
    """The content with fields of the second annotation replaced."""
    changed = copy.deepcopy(content())
    changed["annotations"][1].update(fields)
    return changed


def write(folder: Path, json_content: Any) -> Path:
    """Write it, text as it is."""
    path = folder / "set.json"
    is_text = isinstance(json_content, str)
    path.write_text(json_content if is_text else json.dumps(json_content))
    return path
