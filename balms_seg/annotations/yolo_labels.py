"""YOLO's folders of labels as COCO annotations: the same numbers, in pixels.

An image `A/images/B.jpg` has its labels in `A/labels/B.txt`, a line an object: the class, and then
the polygon's points, or a box's centre and size, as shares of the upright image's width and height.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from balms_seg.decoding import read_header

from .errors import AnnotationError, shortened

SPLITS = ("train", "val", "test")
_IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_CLASSES_FILE = "classes.txt"  # which labelling tools write beside the labels
_TOLERANCE = 1e-3  # of the image, by which rounded coordinates may stick out


@dataclass(frozen=True)
class YoloFolder:
    """What a data.yaml says.

    Attributes:
        root: folder that paths are relative to, without links.
        names: of the classes, by index.
        images: of each split that there is, in order of their paths; may be links.
    """

    root: Path
    names: tuple[str, ...]
    images: Mapping[str, tuple[Path, ...]]


def read_yolo_folder(source: str | Path) -> YoloFolder:
    """Read data.yaml and find the images of its splits.

    Args:
        source: the yaml, or the folder that holds data.yaml.

    Raises:
        FileNotFoundError: the yaml, or what it names, is not there.
        AnnotationError: it names no classes or no images.
    """
    path = Path(source)
    path = path / "data.yaml" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"Expected the data.yaml of a YOLO folder at {path}.")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise AnnotationError(f"{path}: expected names of classes 0, 1, ..., got {names}.")
        names = [names[index] for index in range(len(names))]
    if not names:
        raise AnnotationError(f"{path} has no list of class names under `names`.")
    root = path.parent / str(content.get("path") or ".")
    if not root.is_dir():  # written on another machine: what it names lies beside it
        root = path.parent
    root = root.resolve()
    images = {
        split: tuple(sorted(_images_of(root, content[split])))
        for split in SPLITS
        if content.get(split)
    }
    if not any(images.values()):
        raise AnnotationError(f"{path} names no images under {', '.join(SPLITS)}.")
    return YoloFolder(root, tuple(map(str, names)), images)


def _images_of(root: Path, entry: Any) -> Iterator[Path]:
    """Images of a folder, of a list (.txt), or of several of either."""
    for one in entry if isinstance(entry, list) else [entry]:
        # Exports of some tools count from a folder below the yaml's own.
        candidates = [root / str(one), root / str(one).removeprefix("../")]
        place = next((path for path in candidates if path.exists()), None)
        if place is None:
            raise FileNotFoundError(f"Expected images at {candidates[0]}, but there is nothing.")
        if place.is_dir():
            found = (path for path in place.rglob("*") if _is_image(path))
        else:
            lines = place.read_text(encoding="utf-8").split("\n")
            found = (root / line.strip() for line in lines if line.strip())
        # Not resolved: the labels of a link lie beside the link.
        yield from (Path(os.path.normpath(path)) for path in found)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _IMAGE_SUFFIXES


def to_coco(folder: YoloFolder, split: str, *, outside: bool = False) -> dict[str, Any]:
    """Annotations of a split; file names are relative to the folder's root.

    Args:
        folder: what was read.
        split: one of its splits.
        outside: whether images and labels may lie outside of the root, or be links that lead out
            of it; what lies there is named by its whole path.

    Returns:
        The content of a COCO json; category ids are the classes' indices and 1.

    Raises:
        AnnotationError: a line cannot be read, or a file lies outside the root.
        OSError: an image cannot be read.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, path in enumerate(folder.images[split], start=1):
        labels = label_file(path)
        for file in () if outside else (path, labels):
            _require_inside(file, folder.root)
        width, height = read_header(str(path)).shown_size
        is_below = path.is_relative_to(folder.root)
        name = (path.relative_to(folder.root) if is_below else path).as_posix()
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for label in _read_labels(labels, len(folder.names), (width, height)):
            own = {"id": len(annotations) + 1, "image_id": image_id, "iscrowd": 0}
            annotations.append({**own, **label})
    categories = [{"id": i, "name": name} for i, name in enumerate(folder.names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def label_file(image: Path) -> Path:
    """Where the labels of an image are, if it has any."""
    parts = list(image.parts)
    folders = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def labels_without_image(folder: YoloFolder) -> list[Path]:
    """Label files, in the folders of the images' labels, of which there is no image.

    Folders that hold images and labels alike are left out: their other .txt files may be lists.
    """
    found: set[Path] = set()
    for place in {image.parent for images in folder.images.values() for image in images}:
        labels = label_file(place / "any.jpg").parent
        if labels != place:
            images = {path.stem for path in place.iterdir() if _is_image(path)}
            found |= {path for path in labels.glob("*.txt") if path.stem not in images}
    return sorted(path for path in found if path.name != _CLASSES_FILE)


def _require_inside(path: Path, root: Path) -> None:
    place = path.resolve()
    if not place.is_relative_to(root):
        leads = f"{path} lies outside" if place == path else f"{path} leads to {place}, out of"
        raise AnnotationError(
            f"{leads} {root}, the folder of data.yaml or its `path`; only what lies in it is read. "
            "If you trust whoever made it, say --read-outside."
        )


def _read_labels(path: Path, num_classes: int, size: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """Entries of a label file; none where there is no such file."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if words := line.split():
            try:
                yield _read_label(words, num_classes, size)
            except ValueError as error:
                raise AnnotationError(f"{path}, line {number}: {error}") from None


def _read_label(words: Sequence[str], num_classes: int, size: tuple[int, int]) -> dict[str, Any]:
    index, numbers = float(words[0]), np.array(words[1:], np.float64)
    if not (index.is_integer() and 0 <= index < num_classes):
        raise ValueError(f"expected a class from 0 to {num_classes - 1}, but got {words[0]}.")
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        raise ValueError(
            "expected a box of four numbers or a polygon of at least three points, but got "
            f"{len(numbers)} numbers."
        )
    is_box = len(numbers) == 4
    points = numbers.reshape(-1, 2)
    if is_box:
        center, extent = points
        points = np.array([center - extent / 2, center + extent / 2])
    if not ((points >= -_TOLERANCE) & (points <= 1 + _TOLERANCE)).all():
        raise ValueError(
            "expected shares of the image from 0 to 1 (pixels are not YOLO's form), but got "
            f"{shortened([f'{value:g}' for value in numbers.tolist()])}."
        )
    points = np.clip(points, 0, 1) * size
    low, high = points.min(axis=0), points.max(axis=0)
    entry: dict[str, Any] = {
        "category_id": int(index) + 1,
        "bbox": [*low.tolist(), *(high - low).tolist()],
    }
    if is_box:
        return {**entry, "area": float(np.prod(high - low))}
    x, y = points.T
    area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return {**entry, "area": area, "segmentation": [points.reshape(-1).tolist()]}
