"""detectron2's builtin LVIS names, read by this package's loader."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from balms_seg.data.instances.dataset_dicts import load_annotations
from balms_seg.registered_names import require_registered
from balms_seg.wording import counted

# Builtin LVIS sets with annotations; the test sets have none.
BUILTIN_LVIS_NAMES = (
    "lvis_v1_train",
    "lvis_v1_val",
    "lvis_v0.5_train",
    "lvis_v0.5_val",
    "lvis_v0.5_val_rand_100",
    "lvis_v0.5_train_cocofied",
    "lvis_v0.5_val_cocofied",
)

BUILTIN_COCO_NAMES = ("coco_2017_train", "coco_2017_val")

# Images of the published files.
NUM_IMAGES = {
    "lvis_v1_train": 100170,
    "lvis_v1_val": 19809,
    "lvis_v0.5_train": 57263,
    "lvis_v0.5_val": 5000,
    "lvis_v0.5_val_rand_100": 100,
}

Records = Sequence[dict[str, Any]]
Load = Callable[[str], Records]  # name of a registered set -> its dataset dicts


@contextmanager
def naming_downloads(name: str) -> Iterator[None]:
    """Let the error for an absent file of a builtin set say how to get it."""
    try:
        yield
    except FileNotFoundError as error:
        hint = describe_downloads(name)
        if not hint:
            raise
        raise FileNotFoundError(f"{error} {hint}") from error


def describe_downloads(name: str) -> str:
    """Where a builtin set of LVIS or COCO is expected, and what gets it; empty for others."""
    if name not in BUILTIN_LVIS_NAMES + BUILTIN_COCO_NAMES:
        return ""
    root = os.environ.get("DETECTRON2_DATASETS", "not set")
    prepared = "_".join(name.split("_")[:2]) if name in BUILTIN_LVIS_NAMES else "coco"
    return (
        f"detectron2 expects {name!r} there because DETECTRON2_DATASETS is {root}. "
        f"`python datasets/prepare_lvis_and_coco.py {prepared}` in a "
        "checkout says what to get, how large it is, and links downloads; datasets/README.md "
        "shows the tree."
    )


def describe_other_size(name: str, num_images: int) -> str:
    """A sentence where the file of a builtin LVIS name is not the published one, by its size.

    Args:
        name: of a registered set.
        num_images: of its json.
    """
    published = NUM_IMAGES.get(name, num_images)
    if published == num_images:
        return ""
    return (
        f"{MetadataCatalog.get(name).json_file} has {counted(num_images, 'image')}, but the "
        f"published file of {name!r} has {published}: results on it are not comparable with "
        "published ones."
    )


def load_dataset_dicts(name: str) -> Records:
    """Dataset dicts of a registered data set.

    detectron2's registration of the LVIS names stays, with its class names and paths. Only the
    reading is this package's: it needs no `lvis`, says what is wrong with a file, and adds
    `class_frequency` and `class_image_count` to the metadata.

    Raises:
        KeyError: no data set of that name is registered.
        FileNotFoundError: its json is missing.
        ValueError: its json cannot be used, or does not have the builtin classes.
    """
    require_registered(name)
    if name not in BUILTIN_LVIS_NAMES:
        with naming_downloads(name):
            return DatasetCatalog.get(name)
    metadata = MetadataCatalog.get(name)
    with naming_downloads(name):
        dicts = load_annotations(metadata.json_file, metadata.image_root, name)
    expected, got = len(metadata.thing_classes), len(metadata.thing_dataset_id_to_contiguous_id)
    if expected != got:
        raise ValueError(
            f"{metadata.json_file} has {got} categories, but {name!r} has {expected}; put the "
            "official file there, or register this one under a name of its own."
        )
    return dicts
