"""Entries of a json in its own form again, made from the arrays."""

from __future__ import annotations

from typing import Any

from .annotations import Annotations


def image_content(annotations: Annotations, image: int) -> dict[str, Any]:
    """An image as a json has it; `file_name` is relative to the folder of the images."""
    table = annotations.image_table
    height, width = table.sizes[image].tolist()
    return {
        "id": table.ids[image],
        "file_name": table.paths[image],
        "height": height or None,
        "width": width or None,
    }


def annotation_content(annotations: Annotations, place: int) -> dict[str, Any]:
    """An annotation as a json has it, with what that leaves out filled in."""
    segmentation = annotations.segmentation(place)
    if isinstance(segmentation, list):
        segmentation = [polygon.tolist() for polygon in segmentation]
    return {
        "id": annotations.ids[place],
        "image_id": annotations.image_table.ids[int(annotations.images[place])],
        "category_id": annotations.facts.categories[int(annotations.classes[place])]["id"],
        "bbox": annotations.boxes[place].tolist(),
        "area": float(annotations.areas[place]),
        "iscrowd": int(annotations.is_crowd[place]),
        "ignore": int(annotations.is_ignored[place]),
        "segmentation": segmentation,
    }
