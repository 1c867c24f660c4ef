"""Records of image classification sets: class folders, lists, torchvision's CIFAR, features."""

from __future__ import annotations

import os

from balms_seg.annotations.class_limits import check_class_names
from balms_seg.data.images.class_folders import read_class_folders
from balms_seg.data.images.feature_files import read_feature_records
from balms_seg.data.images.image_files import (
    CIFAR_FOLDERS,
    cifar_arrays,
    is_archive,
    is_feature_file,
    split_archive,
)
from balms_seg.data.images.image_records import ImageRecords
from balms_seg.data.images.list_files import read_list


def read_image_records(source: str, root: str) -> ImageRecords:
    """Read a set as `DATASETS.REGISTER_IMAGES` describes it.

    Args:
        source: a folder or zip archive of class folders, a folder of torchvision's CIFAR, a list
            file (it may lie in a zip itself), or a file of features, see `feature_files`.
        root: for class folders the folder inside the source that holds them, such as "train" (""
            for the source itself); for CIFAR "train" or "test"; for a list file the folder or zip
            that its paths are relative to ("": the list's own folder), or the `.npz` with their
            features; for a `.npy` the list file with its labels.

    Raises:
        FileNotFoundError: the source does not exist.
        ValueError: it holds no image, or cannot be read.
    """
    if os.path.basename(source) in CIFAR_FOLDERS:
        return _from_cifar(source, root)
    if split_archive(source) is None and not os.path.exists(source):
        raise FileNotFoundError(f"Expected images at {source}, but there is nothing.")
    if is_feature_file(source):
        return read_feature_records(source, root)
    if has_class_folders(source):
        found = read_class_folders(source.rstrip("/"), root.strip("/"))
    else:
        found = read_list(source, root)
    check_class_names(found.class_names, source)
    return found


def has_class_folders(source: str) -> bool:
    """Whether a source is a folder or an archive, not a list."""
    return os.path.isdir(source) or is_archive(source)


def _from_cifar(folder: str, part: str) -> ImageRecords:
    _, labels, class_names = cifar_arrays(folder, part)
    records = [
        {"file_name": f"{folder}/{part}/{row}", "key": f"{part}/{row}", "label": label}
        for row, label in enumerate(labels.tolist())
    ]
    return ImageRecords(records, class_names)
