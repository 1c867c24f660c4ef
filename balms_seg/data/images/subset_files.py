"""Long-tailed subsets as files: lists of "path label", and a zip of only the images they use."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from balms_seg.data.images.image_files import CIFAR_FOLDERS, read_bytes
from balms_seg.data.images.image_records import ImageRecords
from balms_seg.data.images.list_files import format_classes
from balms_seg.data.images.long_tailed_subsets import draw_subset, subset_sizes
from balms_seg.progress import with_progress


def build_subset(
    whole: ImageRecords,
    *,
    rho: float,
    kind: str = "exponential",
    seed: int = 0,
    largest: int | None = None,
) -> ImageRecords:
    """The records of a long-tailed subset, in the order of the whole set.

    Args:
        whole: a set of images; its classes in order, the first one to be the most frequent.
        rho: largest over smallest class.
        kind: "exponential" or "step".
        seed: of the draw; the subsets of one seed are nested in rho.
        largest: samples of the first class; None for all that it has.

    Raises:
        ValueError: such a subset does not exist.
    """
    labels = [record["label"] for record in whole.records]
    if largest is None:
        largest = Counter(labels)[0]
    sizes = subset_sizes(largest, len(whole.class_names), rho, kind)
    kept = draw_subset(labels, sizes, seed, keys=[record["key"] for record in whole.records])
    return whole._replace(records=[whole.records[i] for i in kept.tolist()], notes=())


def format_list(subset: ImageRecords, comments: Sequence[str] = ()) -> str:
    """A list file: comments, the class names, and a line "path label" for each image.

    Paths are the keys of the records, so relative to the set's folder or archive.
    """
    head = [f"# {comment}" for comment in comments]
    if subset.names_are_known:
        head.append(format_classes(subset.class_names))
    lines = [f"{record['key']} {record['label']}" for record in subset.records]
    return "\n".join([*head, *lines]) + "\n"


def write_pack(
    path: str | Path, records: Iterable[Mapping[str, Any]], texts: Mapping[str, str]
) -> int:
    """Write a zip of images under their keys; the same input gives the same bytes.

    A set with class folders keeps them, so the pack takes the whole archive's place.

    Args:
        path: zip to write; an older one stays whole until the new one is.
        records: of images; those that come again are written once.
        texts: further members, by name.

    Returns:
        The number of images.

    Raises:
        ValueError: the images are rows of torchvision's CIFAR files.
    """
    sources = dict(sorted((record["key"], record["file_name"]) for record in records))
    for address in sources.values():
        if any(f"/{folder}/" in address for folder in CIFAR_FOLDERS):
            raise ValueError(
                f"Expected images in files to pack, but got rows of torchvision's CIFAR, such as "
                f"{address}; take its folder along as it is, or pack an archive of images."
            )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        # Stored: images are compressed already.
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name, text in sorted(texts.items()):
                archive.writestr(zipfile.ZipInfo(name), text)
            for name, address in with_progress(sources.items(), label="packing", unit="image"):
                archive.writestr(zipfile.ZipInfo(name), read_bytes(address))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return len(sources)
