#!/usr/bin/env python3
"""Writes a made-up training set of LVIS v1's size: its fields and frequency curve, no photographs.

tools/benchmarks/make_lvis_like.py lvis_like.json --scale 0.1 --seed 0

Names and groups of the classes are those of LVIS v1, as detectron2 has them; images a class follow
its groups; where the objects lie, and their outlines, are drawn.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

NUM_IMAGES = 100_170
NUM_ANNOTATIONS = 1_270_141
_MEAN_POINTS = 42
# Fewest and most training images of a class, by frequency group.
_IMAGE_COUNTS = {"r": (1, 10), "c": (11, 100), "f": (101, 2000)}
_SHAPES = ((480, 640), (427, 640), (640, 480), (640, 427))  # (height, width), in turn
_LISTS = ("neg_category_ids", "not_exhaustive_category_ids")


def write_lvis_like(
    path: Path,
    *,
    scale: float = 1.0,
    seed: int = 0,
    shapes: Sequence[tuple[int, int]] = _SHAPES,
) -> dict[str, int]:
    """Write the json piece by piece.

    Args:
        path: of the json.
        scale: share of LVIS v1's images, annotations and images a class.
        seed: of what is drawn.
        shapes: (height, width) of the images, in turn.

    Returns:
        Numbers of images, annotations and categories.
    """
    rng = np.random.default_rng(seed)
    num_images = max(1, round(NUM_IMAGES * scale))
    categories = _categories(scale)
    images, classes = _occurrences(rng, categories, num_images)
    sizes = list(itertools.islice(itertools.cycle(shapes), num_images))
    num_annotations = 0
    with path.open("w") as file:
        file.write('{"info": {"description": "made up"}, "licenses": [], "categories": ')
        json.dump(categories, file)
        file.write(', "images": [')
        _write_entries(file, _images(rng, sizes, images, classes))
        file.write('], "annotations": [')
        num_annotations = _write_entries(file, _annotations(rng, sizes, images, classes))
        file.write("]}")
    return {
        "images": num_images,
        "annotations": num_annotations,
        "categories": len(categories),
    }


def _categories(scale: float) -> list[dict[str, Any]]:
    """LVIS v1's categories; within a frequency group the image counts ascend geometrically."""
    from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES

    counts = {}
    for letter, (fewest, most) in _IMAGE_COUNTS.items():
        ids = [category["id"] for category in LVIS_CATEGORIES if category["frequency"] == letter]
        counts.update(zip(ids, np.geomspace(fewest, most, len(ids)).tolist(), strict=True))
    return [
        {**category, "image_count": max(1, round(counts[category["id"]] * scale))}
        for category in LVIS_CATEGORIES
    ]


def _occurrences(
    rng: np.random.Generator, categories: list[dict[str, Any]], num_images: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of an image and a category id that occurs in it, by image."""
    images = [
        rng.choice(num_images, min(category["image_count"], num_images), replace=False)
        for category in categories
    ]
    classes = np.repeat([category["id"] for category in categories], [len(i) for i in images])
    flat = np.concatenate(images)
    order = np.argsort(flat, kind="stable")
    return flat[order], classes[order]


def write_photographs(annotations: Path, folder: Path) -> None:
    """Write a jpeg of noise for each image of a json."""
    from PIL import Image

    rng = np.random.default_rng(0)
    (folder / "train2017").mkdir(parents=True)
    for image in json.loads(annotations.read_text())["images"]:
        height, width = image["height"], image["width"]
        coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        name = image["coco_url"].rpartition("/")[2]
        Image.fromarray(coarse).resize((width, height)).save(folder / "train2017" / name)


def _images(
    rng: np.random.Generator,
    sizes: Sequence[tuple[int, int]],
    images: np.ndarray,
    classes: np.ndarray,
) -> Iterator[dict[str, Any]]:
    bounds = np.searchsorted(images, np.arange(len(sizes) + 1)).tolist()
    last = int(classes.max(initial=1))
    for index, (height, width) in enumerate(sizes):
        present = classes[bounds[index] : bounds[index + 1]]
        negative = np.setdiff1d(rng.integers(1, last + 1, 5), present)
        name = f"{index + 1:012}.jpg"
        yield {
            "id": index + 1,
            "height": height,
            "width": width,
            "license": index % 8 + 1,
            "date_captured": "2013-11-14 17:02:52",
            "coco_url": f"http://images.cocodataset.org/train2017/{name}",
            "flickr_url": f"http://farm9.staticflickr.com/8186/{index:010}_b8b6e5bdff_z.jpg",
            **dict(zip(_LISTS, (negative.tolist(), present[:1].tolist()), strict=True)),
        }


def _annotations(
    rng: np.random.Generator,
    sizes: Sequence[tuple[int, int]],
    images: np.ndarray,
    classes: np.ndarray,
) -> Iterator[dict[str, Any]]:
    mean = NUM_ANNOTATIONS / NUM_IMAGES * len(sizes) / max(1, len(images))
    counts = rng.geometric(min(1.0, 1 / mean), len(images))
    number = 0
    for image, category_id, count in zip(
        images.tolist(), classes.tolist(), counts.tolist(), strict=True
    ):
        height, width = sizes[image]
        for _ in range(count):
            number += 1
            outline = _outline(rng, int(height), int(width))
            low, high = outline.min(axis=0), outline.max(axis=0)
            x, y = outline.T
            area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
            yield {
                "id": number,
                "area": round(float(area), 2),
                "segmentation": [outline.round(2).reshape(-1).tolist()],
                "image_id": image + 1,
                "bbox": np.concatenate([low, high - low]).round(2).tolist(),
                "category_id": category_id,
            }


def _outline(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(points, 2) corners of a star-shaped object that lies within the image."""
    num_points = 4 + int(rng.exponential(_MEAN_POINTS - 4))
    radius = np.exp(rng.uniform(np.log(4), np.log(min(height, width) / 2 - 1)))
    centre = rng.uniform(radius, np.array([width, height]) - radius)
    angles = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    radii = radius * rng.uniform(0.6, 1.0, num_points)
    return centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _write_entries(file: Any, entries: Iterator[dict[str, Any]]) -> int:
    number = 0
    for entry in entries:
        file.write(", " if number else "")
        file.write(json.dumps(entry))
        number += 1
    return number


def main(arguments: list[str] | None = None) -> None:
    """Write the set that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="json to write")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is LVIS v1; default 1")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    numbers = write_lvis_like(options.output, scale=options.scale, seed=options.seed)
    print(", ".join(f"{number} {name}" for name, number in numbers.items()))


if __name__ == "__main__":
    main()
