"""Made-up image classification sets, and settings that train a classifier on them in seconds."""

from __future__ import annotations

import io
import itertools
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

NUM_CLASSES = 3
SIZE = 8
TRAIN_COUNTS = (12, 6, 2)  # images of each class
TEST_COUNTS = (3, 3, 3)
CLASSES = ("ape", "bee", "cat")

_numbers = itertools.count()

SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES": NUM_CLASSES,
    "INPUT.IMAGES.SIZE": SIZE,
    "INPUT.IMAGES.PADDING": 1,
    "INPUT.IMAGES.CUTOUT": 4,
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.BASE_LR": 0.05,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.MAX_ITER": 2,
    "DATALOADER.NUM_WORKERS": 0,
    "TEST.IMAGES_PER_BATCH": 4,
    "SEED": 3,
}


def picture(label: int, number: int, size: int = SIZE) -> Image.Image:
    """Noise about a brightness that depends on the class."""
    rng = np.random.default_rng(1000 * label + number)
    pixels = rng.integers(0, 60, (size, size, 3)) + 70 * label
    return Image.fromarray(pixels.astype(np.uint8))


def write_folders(folder: Path, counts: Sequence[int], size: int = SIZE, *, first: int = 0) -> None:
    """CLASS/NUMBER.png below a folder; sets of another first picture have no picture in common."""
    for label, count in enumerate(counts):
        (folder / CLASSES[label]).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture(label, first + number, size).save(folder / CLASSES[label] / f"{number:03}.png")


def write_zip(path: Path, parts: dict[str, Sequence[int]]) -> None:
    """PART/CLASS/NUMBER.png in an archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for part, counts in parts.items():
            for label, count in enumerate(counts):
                for number in range(count):
                    content = io.BytesIO()
                    picture(label, number + 100 * (part == "test")).save(content, "png")
                    archive.writestr(f"{part}/{CLASSES[label]}/{number:03}.png", content.getvalue())


def write_image_sets(folder: Path) -> dict[str, object]:
    """Write an archive; returns the settings that register and use its training and test set."""
    number = next(_numbers)  # detectron2's catalogue is global
    path = folder / "images.zip"
    write_zip(path, {"train": TRAIN_COUNTS, "test": TEST_COUNTS})
    names = {part: f"made_up_images_{number}_{part}" for part in ("train", "test")}
    return {
        "DATASETS.REGISTER_IMAGES": [[name, str(path), part] for part, name in names.items()],
        "DATASETS.TRAIN": (names["train"],),
        "DATASETS.TEST": (names["test"],),
    }
