"""Registering data sets with detectron2: their annotations are read when first needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata

from balms_seg.annotations import read_annotations
from balms_seg.data.images.image_sets import absolute_source, register_images_from_config
from balms_seg.data.instances.dataset_dicts import (
    DatasetDicts,
    file_metadata,
    load_annotations,
    set_loaded_metadata,
)
from balms_seg.registered_names import require_registered

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# What only the json knows.
_FILE_KEYS = (
    "thing_classes",
    "thing_dataset_id_to_contiguous_id",
    "evaluator_type",
    "class_frequency",
    "class_image_count",
)


@dataclass(frozen=True)
class _Source:
    """What a name stands for; in detectron2's catalogue, which calls it to read the set."""

    name: str
    json_file: str
    image_root: str
    match_file_names: str
    trust_annotations: bool

    def __call__(self) -> DatasetDicts:
        return load_annotations(
            self.json_file,
            self.image_root,
            self.name,
            match_file_names=self.match_file_names,
            trust_annotations=self.trust_annotations,
        )


class FileMetadata(Metadata):
    """detectron2 metadata that reads the json when a key is asked for that only the json knows.

    So `MetadataCatalog.get(name).thing_classes` holds before the annotations were loaded.
    """

    def __getattr__(self, key: str) -> Any:
        if key in _FILE_KEYS and "json_file" in self.__dict__:
            set_loaded_metadata(self.name, file_metadata(read_annotations(self.json_file)))
            return self.__dict__[key]
        return super().__getattr__(key)

    def as_dict(self) -> dict[str, Any]:
        """All metadata, those of the json included."""
        for key in _FILE_KEYS:
            getattr(self, key)
        return super().as_dict()


def register_long_tailed_instances(
    name: str,
    json_file: str | Path,
    image_root: str | Path,
    metadata: dict[str, Any] | None = None,
    *,
    match_file_names: str = "exact",
    trust_annotations: bool = False,
) -> None:
    """Register COCO- or LVIS-style annotations under a name for `DATASETS.TRAIN` and `.TEST`.

    Nothing is read now. Registering a name again with the same files changes nothing.

    Args:
        name: any name that detectron2 does not use itself.
        json_file: COCO- or LVIS-style annotations.
        image_root: folder of the images; see `load_annotations`.
        metadata: further metadata; a key that the json decides as well wins over the json.
        match_file_names: see `load_annotations`.
        trust_annotations: see `load_annotations`.

    Raises:
        ValueError: the name is taken, by detectron2 or with other files.
    """
    source = _Source(
        name, _normalised(json_file), _normalised(image_root), match_file_names, trust_annotations
    )
    registered = DatasetCatalog.data.get(name)  # removed or taken by others: the catalogue knows
    if registered is None:
        DatasetCatalog.register(name, source)
        MetadataCatalog.pop(name, None)
    elif not isinstance(registered, _Source):
        raise ValueError(
            f"Data set name {name!r} is taken by a data set that is registered elsewhere "
            "(detectron2 registers its own); use another name."
        )
    elif registered != source:
        raise ValueError(
            f"Data set {name!r} is registered with {registered.json_file} and "
            f"{registered.image_root}, and now with {source.json_file} and {source.image_root}; "
            "use another name."
        )
    if name not in MetadataCatalog:
        MetadataCatalog[name] = FileMetadata(
            name=name,
            json_file=source.json_file,
            image_root=source.image_root,
            match_file_names=match_file_names,
            trust_annotations=trust_annotations,
            **(metadata or {}),
        )


def register_from_config(cfg: CfgNode) -> None:
    """Register what DATASETS.REGISTER lists: [name, json file, image folder] each; and images.

    Raises:
        ValueError: an entry has another form, or a name is taken.
    """
    for entry in cfg.DATASETS.REGISTER:
        if len(entry) != 3 or not all(isinstance(part, str) for part in entry):
            raise ValueError(
                f"DATASETS.REGISTER holds {entry!r}; each entry is [name, json file, image folder]."
            )
        register_long_tailed_instances(
            *entry,
            match_file_names=cfg.DATASETS.MATCH_FILE_NAMES,
            trust_annotations=cfg.DATASETS.TRUST_ANNOTATIONS,
        )
    register_images_from_config(cfg)


def make_paths_absolute(cfg: CfgNode) -> None:
    """Write the sets' paths in full, in place, so that config.yaml holds in every folder.

    Args:
        cfg: checked, not frozen.
    """
    cfg.DATASETS.REGISTER = [
        [name, _normalised(json_file), _normalised(image_root)]
        for name, json_file, image_root in cfg.DATASETS.REGISTER
    ]
    cfg.DATASETS.REGISTER_IMAGES = [
        [name, *absolute_source(source, root)]
        for name, source, root in cfg.DATASETS.REGISTER_IMAGES
    ]


def get_metadata(name: str) -> Metadata:
    """Metadata of a registered data set, with what its json decides.

    Raises:
        KeyError: no data set of that name is registered.
    """
    require_registered(name)
    metadata = MetadataCatalog.get(name)
    metadata.as_dict()
    return metadata


def _normalised(path: str | Path) -> str:
    text = str(path)
    return text if "://" in text else os.path.abspath(os.path.expanduser(text))
