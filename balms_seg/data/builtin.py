"""detectron2's builtin LVIS names, read by this package's loader."""

from __future__ import annotations

from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from balms_seg.data.annotations import load_annotations

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


def load_dataset_dicts(name: str) -> list[dict[str, Any]]:
    """Dataset dicts of a registered data set.

    detectron2's registration of the LVIS names stays, with its class names and paths. Only the
    reading is this package's: it needs no `lvis`, says what is wrong with a file, and adds
    `class_frequency` and `class_image_count` to the metadata.

    Raises:
        KeyError: no data set of that name is registered.
        ValueError: its json does not have the builtin classes.
    """
    if name not in BUILTIN_LVIS_NAMES:
        return DatasetCatalog.get(name)
    metadata = MetadataCatalog.get(name)
    dicts = load_annotations(metadata.json_file, metadata.image_root, name)
    expected = len(metadata.thing_classes)
    got = len(metadata.thing_dataset_id_to_contiguous_id)
    if expected != got:
        raise ValueError(
            f"{metadata.json_file} has {got} categories, but {name!r} has {expected}; put the "
            "official file there, or register this one under a name of its own."
        )
    return dicts
