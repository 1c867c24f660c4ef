"""The LVIS json files of a toy data set."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from balms_seg.glyphs.glyph_labels import ImageLabels


def write_json(path: Path, content: dict) -> None:
    """Write under another name first, so that a file under its own name is whole."""
    temporary = path.with_suffix(".json.part")
    temporary.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
    os.replace(temporary, path)


def file_name(index: int) -> str:
    """Of the image of an index."""
    return f"{index:06d}.png"


def lvis_categories(
    names: Sequence[str],
    synonyms: Sequence[str],
    image_counts: np.ndarray,
    instance_counts: np.ndarray,
) -> list[dict]:
    """LVIS categories; as in LVIS, counts and frequency are the training split's in every split.

    Args:
        names: of the K classes; class index k has category id k + 1.
        synonyms: one a class.
        image_counts: (K,) training images that annotate each class.
        instance_counts: (K,) its annotations in them.
    """
    return [
        {
            "id": k + 1,
            "name": name,
            "synonyms": [synonym],
            "frequency": "r" if images <= 10 else "c" if images <= 100 else "f",
            "image_count": int(images),
            "instance_count": int(instances),
        }
        for k, (name, synonym, images, instances) in enumerate(
            zip(names, synonyms, image_counts, instance_counts, strict=True)
        )
    ]


def lvis_content(
    labels: Sequence[ImageLabels],
    annotations: Sequence[Sequence[dict]],
    size: int,
    categories: list[dict],
) -> dict:
    """What the file of a split holds.

    Args:
        labels: of every image.
        annotations: of every image, without ids.
        size: side of the square images in pixels.
        categories: see `lvis_categories`.
    """
    images: list[dict] = []
    numbered: list[dict] = []
    for index, (known, found) in enumerate(zip(labels, annotations, strict=True)):
        images.append(
            {
                "id": index + 1,
                "file_name": file_name(index),
                "width": size,
                "height": size,
                "neg_category_ids": [c + 1 for c in known.negative],
                "not_exhaustive_category_ids": [c + 1 for c in known.not_exhaustive],
            }
        )
        for annotation in found:
            identity = {"id": len(numbered) + 1, "image_id": index + 1, "iscrowd": 0}
            numbered.append({**identity, **annotation})
    return {"images": images, "annotations": numbered, "categories": categories}
