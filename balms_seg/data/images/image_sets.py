"""Registered image classification sets: CIFAR and its long-tailed subsets, the lists, one's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from balms_seg.data.images.image_files import CIFAR_FOLDERS
from balms_seg.data.images.image_lists import has_class_folders, read_image_records
from balms_seg.data.images.image_records import ImageRecords, log_notes
from balms_seg.data.images.long_tailed_subsets import draw_subset, subset_sizes

if TYPE_CHECKING:
    from detectron2.config import CfgNode

EVALUATOR_TYPE = "image_classification"
SUBSET_SEED = 0  # of every long-tailed subset of a builtin name, so that all stages see the same
RHOS = (200, 100, 50, 20, 10)
# classes -> where it may lie below DETECTRON2_DATASETS, images of a class in the training set
_CIFAR = {
    10: (("cifar-10-batches-py", "cifar10-jpeg.zip"), 5000),
    100: (("cifar-100-python", "cifar100-jpeg.zip"), 500),
}
# name -> list file and folder of its images, below DETECTRON2_DATASETS
_LISTS = {
    **{
        f"imagenet_lt_{part}": (f"ImageNet_LT/ImageNet_LT_{part}.txt", "imagenet")
        for part in ("train", "val", "test")
    },
    **{
        f"places_lt_{part}": (f"Places_LT/Places_LT_{part}.txt", "places365")
        for part in ("train", "val", "test")
    },
    **{
        f"inaturalist2018_{part}": (f"iNaturalist18/iNaturalist18_{part}.txt", "inaturalist2018")
        for part in ("train", "val")
    },
}


@dataclass(frozen=True)
class _ImageSet:
    """What a name stands for; in detectron2's catalogue, which calls it to read the set.

    Attributes:
        name: of the set.
        read: its images.
        entry: source and root of one's own; None: it is a builtin one.
    """

    name: str
    read: Callable[[], ImageRecords]
    entry: tuple[str, str] | None = None

    def __call__(self) -> list[dict[str, Any]]:
        found = self.read()
        log_notes(self.name, found.notes)
        metadata = vars(MetadataCatalog.get(self.name))
        metadata["thing_classes"] = list(found.class_names)
        metadata["names_are_known"] = found.names_are_known
        return found.records


def register_images(name: str, source: str, root: str = "") -> None:
    """Register an image classification set for `DATASETS.TRAIN` and `.TEST`; reads nothing yet.

    Args:
        name: any name that no other set has.
        source: see `image_lists.read_image_records`.
        root: likewise.

    Raises:
        ValueError: the name is taken.
    """
    entry = absolute_source(source, root)
    registered = DatasetCatalog.data.get(name)  # removed or taken by others: the catalogue knows
    if isinstance(registered, _ImageSet) and registered.entry == entry:
        return
    if registered is not None:
        raise ValueError(f"Data set name {name!r} is taken; use another name.")
    images = _ImageSet(name, partial(read_image_records, *entry), entry)
    _register(images, image_root=entry[1] or entry[0])


def absolute_source(source: str, root: str) -> tuple[str, str]:
    """Source and root of a set that mean the same in every working directory."""
    source = _absolute(source)
    return source, root if _is_inside(source) else _absolute(root)


def register_images_from_config(cfg: CfgNode) -> None:
    """Register what DATASETS.REGISTER_IMAGES lists: [name, source, root] each.

    Raises:
        ValueError: a name is taken.
    """
    for entry in cfg.DATASETS.REGISTER_IMAGES:
        register_images(*entry)


def _register_builtin() -> None:
    """Register the names of the companion benchmarks, below DETECTRON2_DATASETS."""
    for classes in _CIFAR:
        for part in ("train", "test"):
            _register(_ImageSet(f"cifar{classes}_{part}", partial(read_cifar, classes, part)))
        for kind, label in (("exponential", "lt"), ("step", "step")):
            for rho in RHOS:
                read = partial(read_cifar_subset, classes, rho, kind)
                _register(
                    _ImageSet(f"cifar{classes}_{label}_rho{rho}_train", read),
                    subset={"rho": rho, "kind": kind, "seed": SUBSET_SEED},
                )
    for name, (list_file, images) in _LISTS.items():
        _register(_ImageSet(name, partial(_read_builtin_list, list_file, images)))


def read_cifar_subset(classes: int, rho: float, kind: str) -> ImageRecords:
    """A long-tailed subset of CIFAR's training set, the same whenever it is read."""
    whole = read_cifar(classes, "train")
    sizes = subset_sizes(_CIFAR[classes][1], classes, rho, kind)
    labels = [record["label"] for record in whole.records]
    keys = [record["key"] for record in whole.records]
    kept = draw_subset(labels, sizes, SUBSET_SEED, keys=keys)
    return ImageRecords([whole.records[index] for index in kept.tolist()], whole.class_names)


def read_cifar(classes: int, part: str) -> ImageRecords:
    """CIFAR-10 or CIFAR-100, "train" or "test", below DETECTRON2_DATASETS.

    Raises:
        FileNotFoundError: it is not there.
    """
    root, (places, _) = _data_root(), _CIFAR[classes]
    for place in places:
        if os.path.exists(f"{root}/{place}"):
            return read_image_records(f"{root}/{place}", part)
    raise FileNotFoundError(
        f"CIFAR-{classes} is not in {root} (DETECTRON2_DATASETS): expected {' or '.join(places)} "
        f"there; python datasets/prepare_cifar.py cifar{classes} downloads it."
    )


def _read_builtin_list(list_file: str, images: str) -> ImageRecords:
    root = _data_root()
    if not os.path.isfile(f"{root}/{list_file}"):
        raise FileNotFoundError(
            f"There is no {list_file} in {root} (DETECTRON2_DATASETS); datasets/README.md says "
            f"where the list comes from, and that its images belong into {root}/{images}."
        )
    return read_image_records(f"{root}/{list_file}", f"{root}/{images}")


def _register(images: _ImageSet, **metadata: Any) -> None:
    DatasetCatalog.register(images.name, images)
    MetadataCatalog.pop(images.name, None)
    MetadataCatalog.get(images.name).set(evaluator_type=EVALUATOR_TYPE, **metadata)


def _is_inside(source: str) -> bool:
    """Whether the root of a source is a folder within it, not a place of its own."""
    return has_class_folders(source) or os.path.basename(source) in CIFAR_FOLDERS


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path)) if path else ""


def _data_root() -> str:
    return os.path.abspath(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))


_register_builtin()
