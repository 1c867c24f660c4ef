"""Records of image classification sets: class folders, list files, torchvision's CIFAR."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

from balms_seg.annotations.annotation_file import shortened
from balms_seg.data.images.image_files import (
    CIFAR_FOLDERS,
    archive_members,
    cifar_arrays,
    read_bytes,
    split_archive,
)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")


class ImageRecords(NamedTuple):
    """A classification set.

    Attributes:
        records: a dict an image: "file_name" (an address of `image_files`), "key" (a name within
            the set that does not depend on where the set lies) and "label" in [0, K).
        class_names: K names.
    """

    records: list[dict[str, Any]]
    class_names: tuple[str, ...]


def read_image_records(source: str, root: str) -> ImageRecords:
    """Read a set as `DATASETS.REGISTER_IMAGES` describes it.

    Args:
        source: a folder or zip archive of class folders, a folder of torchvision's CIFAR, or a
            list file with "path label" in each line (it may lie in a zip itself).
        root: for class folders the folder inside the source that holds them, such as "train" (""
            for the source itself); for CIFAR "train" or "test"; for a list file the folder or zip
            that its paths are relative to ("": none).

    Raises:
        FileNotFoundError: the source does not exist.
        ValueError: it holds no image, or a line that is no "path label".
    """
    if os.path.basename(source) in CIFAR_FOLDERS:
        return _from_cifar(source, root)
    inside = split_archive(source)
    if inside is None and not os.path.exists(source):
        raise FileNotFoundError(f"Expected images at {source}, but there is nothing.")
    if inside is None and (os.path.isdir(source) or source.endswith(".zip")):
        return _from_class_folders(source, root.strip("/"))
    return _from_list(source, root)


def _from_cifar(folder: str, part: str) -> ImageRecords:
    _, labels, class_names = cifar_arrays(folder, part)
    records = [
        {"file_name": f"{folder}/{part}/{row}", "key": f"{part}/{row}", "label": label}
        for row, label in enumerate(labels.tolist())
    ]
    return ImageRecords(records, class_names)


def _from_class_folders(source: str, root: str) -> ImageRecords:
    prefix = f"{root}/" if root else ""
    found: dict[str, list[str]] = {}
    for name in sorted(_files_below(source)):
        folder, mark, rest = name.removeprefix(prefix).partition("/")
        if name.startswith(prefix) and mark and rest.lower().endswith(IMAGE_SUFFIXES):
            found.setdefault(folder, []).append(name)
    if not found:
        raise ValueError(
            f"Expected images in class folders, {prefix}CLASS/IMAGE, in {source}, but there are "
            "none; name the folder above the class folders, or give a list file with 'path label' "
            "in each line."
        )
    class_names = tuple(sorted(found))
    records = [
        {"file_name": f"{source}/{name}", "key": name, "label": label}
        for label, class_name in enumerate(class_names)
        for name in found[class_name]
    ]
    return ImageRecords(records, class_names)


def _files_below(source: str) -> Iterable[str]:
    if not os.path.isdir(source):
        return archive_members(source)
    return (
        os.path.relpath(os.path.join(folder, name), source).replace(os.sep, "/")
        for folder, _, names in os.walk(source, followlinks=True)
        for name in names
    )


def _from_list(list_file: str, root: str) -> ImageRecords:
    lines = read_bytes(list_file).decode("utf-8").splitlines()
    class_names: tuple[str, ...] | None = None
    records, wrong = [], []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text.startswith("# classes:"):
            class_names = tuple(text.removeprefix("# classes:").split())
        if not text or text.startswith("#"):
            continue
        path, _, label = text.rpartition(" ")
        if path.strip() and label.lstrip("-").isdigit():
            path = path.strip()
            address = f"{root}/{path}" if root else path
            records.append({"file_name": address, "key": path, "label": int(label)})
        else:
            wrong.append(f"line {number}: {text[:60]!r}")
    if wrong:
        raise ValueError(
            f"Expected 'path label' in each line of {list_file}, but {len(wrong)} lines differ: "
            f"{shortened(wrong, 3)}."
        )
    if not records:
        raise ValueError(f"{list_file} lists no image.")
    num_classes = max(record["label"] for record in records) + 1
    if class_names is None:
        class_names = tuple(str(label) for label in range(num_classes))
    return ImageRecords(records, class_names)
