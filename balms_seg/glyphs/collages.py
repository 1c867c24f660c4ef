"""Collages: long-tailed instance segmentation with real photographs, in small.

Photographs of an image classification set, cut to rectangles and ellipses, lie on the cluttered
backgrounds of the glyphs and cover each other in part. The classes of the training split follow a
long tail; the validation split holds every class equally often, in photographs of its own.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_utils

from balms_seg.data.images.image_files import read_image
from balms_seg.data.images.image_records import ImageRecords
from balms_seg.glyphs.glyph_counts import assign_classes, tail_counts
from balms_seg.glyphs.glyph_labels import complete_labels
from balms_seg.glyphs.glyph_plan import keyed_generator
from balms_seg.glyphs.glyph_rendering import cluttered_background
from balms_seg.glyphs.lvis_files import file_name, lvis_categories, lvis_content, write_json

logger = logging.getLogger(__name__)

STAMP = "collages.json"  # says which collages a folder holds; written last
_VERSION = 1  # raise when the same arguments give other images or annotations
_MOST_CLASSES = 4  # in an image
_MOST_COPIES = 3  # instances of a class in an image
_LEAST_VISIBLE = 0.5  # share of an object that others may not cover
_TRIES = 200
_SHRINK = 0.99  # from one try to place an object to the next
_LEAST_SIDE_PX = 12.0


@dataclasses.dataclass(frozen=True)
class CollageConfig:
    """What to make.

    Attributes:
        train_images: training images.
        val_images: validation images.
        max_count: training images of the most frequent class.
        rho: how many times fewer the rarest class has.
        size: side of the square images in pixels.
        seed: in [0, 2 ** 32).
    """

    train_images: int = 800
    val_images: int = 200
    max_count: int = 600
    rho: float = 100.0
    size: int = 128
    seed: int = 0


def make_collages(
    output: str | os.PathLike,
    photographs: dict[str, ImageRecords],
    config: CollageConfig = CollageConfig(),
) -> bool:
    """Write train/, val/ and their json files; keep what is already there and complete.

    Args:
        output: folder to write to; created where missing.
        photographs: by split, "train" and "val", of the same classes; none is used twice.
        config: what to make of them.

    Returns:
        Whether anything was written: False where `output` already holds these very collages.

    Raises:
        FileExistsError: `output` holds something else.
        ValueError: the images cannot hold so many, or there are too few photographs.
    """
    output = Path(output)
    stamp = {"version": _VERSION, **dataclasses.asdict(config), "photographs": {}}
    for split, found in photographs.items():
        stamp["photographs"][split] = [len(found.records), *found.class_names]
    if (output / STAMP).is_file():
        if json.loads((output / STAMP).read_text(encoding="utf-8")) == stamp:
            return False
        raise FileExistsError(
            f"{output} holds other collages; remove it, or choose another folder."
        )
    class_names = photographs["train"].class_names
    num_classes = len(class_names)
    tail = tail_counts(num_classes, round(config.max_count / config.rho), config.max_count)
    image_counts = tail[keyed_generator(config.seed, 0).permutation(num_classes)]
    level = np.full(num_classes, config.val_images * 2 // num_classes)
    plan = {"train": (config.train_images, image_counts), "val": (config.val_images, level)}
    drawn, labels = {}, {}
    for key, (split, (num_images, counts)) in enumerate(plan.items(), start=1):
        rng = keyed_generator(config.seed, key)
        images = [
            np.repeat(classes, rng.integers(1, _MOST_COPIES + 1, len(classes))).tolist()
            for classes in assign_classes(counts, num_images, 1, _MOST_CLASSES, rng)
        ]
        chosen = _choose_photographs(photographs[split], images, rng)
        (output / split).mkdir(parents=True, exist_ok=True)
        labels[split] = [complete_labels(image, num_classes) for image in images]
        drawn[split] = [
            _draw_one(output / split / file_name(index), config.size, *each, rng)
            for index, each in enumerate(zip(images, chosen, strict=True))
        ]
    instances = [annotation["category_id"] - 1 for image in drawn["train"] for annotation in image]
    instance_counts = np.bincount(instances, minlength=num_classes)
    categories = lvis_categories(class_names, class_names, image_counts, instance_counts)
    for split in plan:
        content = lvis_content(labels[split], drawn[split], config.size, categories)
        write_json(output / f"{split}.json", content)
    write_json(output / STAMP, stamp)
    logger.info("Wrote %d collages to %s", config.train_images + config.val_images, output)
    return True


def _choose_photographs(
    photographs: ImageRecords, images: Sequence[list[int]], rng: np.random.Generator
) -> list[list[str]]:
    """An address for every instance of every image, none twice."""
    addresses: list[list[str]] = [[] for _ in photographs.class_names]
    for record in photographs.records:
        addresses[record["label"]].append(record["file_name"])
    wanted = np.bincount(np.concatenate(images), minlength=len(addresses))
    short = [k for k, own in enumerate(addresses) if len(own) < wanted[k]]
    if short:
        name = photographs.class_names[short[0]]
        raise ValueError(
            f"Expected at least {wanted[short[0]]} photographs of {name}, but got "
            f"{len(addresses[short[0]])}; ask for fewer images."
        )
    stacks = [[own[i] for i in rng.permutation(len(own))] for own in addresses]
    return [[stacks[class_index].pop() for class_index in image] for image in images]


def _draw_one(
    path: Path, size: int, classes: list[int], addresses: list[str], rng: np.random.Generator
) -> list[dict]:
    """Draw and write one image; its annotations without ids."""
    order = rng.permutation(len(classes))  # the later ones lie on top
    image, masks = draw_collage([read_image(addresses[i]) for i in order], size, rng)
    if not cv2.imwrite(str(path), image[..., ::-1]):
        raise OSError(f"Could not write {path}; check the free space and the permissions.")
    return [
        {**_annotation(mask), "category_id": classes[i] + 1}
        for i, mask in zip(order, masks, strict=True)
    ]


def draw_collage(
    photographs: Sequence[np.ndarray], size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Lay photographs on a background, each over those before it.

    Args:
        photographs: (h, w, 3) uint8 each.
        size: side of the image in pixels.
        rng: everything random comes from here.

    Returns:
        Image (size, size, 3) uint8, and masks (N, size, size) bool of what is seen of each.

    Raises:
        ValueError: they find no room.
    """
    image = cluttered_background(size, rng)
    masks = np.zeros((0, size, size), bool)
    areas = np.zeros(0)
    for photograph in photographs:
        side = size * rng.uniform(0.22, 0.42)
        for _ in range(_TRIES):
            box, shape = _random_shape(max(side, _LEAST_SIDE_PX), size, rng)
            seen = masks & ~shape
            if (seen.sum((1, 2)) >= _LEAST_VISIBLE * areas).all():
                break
            side *= _SHRINK
        else:
            raise ValueError(
                f"No room for {len(photographs)} photographs in an image of {size} px; ask for a "
                "greater size."
            )
        x, y, width, height = box
        full = np.zeros_like(image)
        full[y : y + height, x : x + width] = cv2.resize(
            photograph, (width, height), interpolation=cv2.INTER_CUBIC
        )
        image = np.where(shape[..., None], full, image)
        masks = np.concatenate([seen, shape[None]])
        areas = np.append(areas, shape.sum())
    return image, masks


def _random_shape(
    side: float, size: int, rng: np.random.Generator
) -> tuple[tuple[int, int, int, int], np.ndarray]:
    """A rectangle or an ellipse anywhere: its box (x, y, width, height) and its mask."""
    aspect = math.exp(rng.uniform(-0.25, 0.25))
    width, height = round(side * aspect), round(side / aspect)
    x, y = (int(rng.integers(size - extent + 1)) for extent in (width, height))
    columns = (np.arange(size) + 0.5 - x) / width * 2 - 1  # -1 to 1 inside the box
    rows = (np.arange(size) + 0.5 - y) / height * 2 - 1
    if rng.random() < 0.5:
        mask = (abs(rows) < 1)[:, None] & (abs(columns) < 1)
    else:
        mask = rows[:, None] ** 2 + columns**2 < 1
    return (x, y, width, height), mask


def _annotation(mask: np.ndarray) -> dict[str, Any]:
    """Segmentation as run lengths, bbox (x, y, w, h) and area in pixels, as LVIS has them."""
    rle = mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")},
        "bbox": mask_utils.toBbox(rle).tolist(),
        "area": int(mask_utils.area(rle)),
    }
