"""COCO- and LVIS-style annotations as detectron2 dataset dicts, made when they are asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from detectron2.data import MetadataCatalog

from balms_seg.annotations import (
    Annotations,
    ImageFolder,
    read_annotations,
    require_trust,
    warn_once,
)
from balms_seg.data.instances.instance_set import InstanceSet
from balms_seg.wording import counted

logger = logging.getLogger(__name__)


class DatasetDicts(Sequence[dict[str, Any]]):
    """Dataset dicts of chosen images of one or several annotation files.

    Each dict is made anew from arrays that processes share, so a change of one is not kept.

    Args:
        sets: the files.
        rows: (N, 2) int64 place in `sets` and image of each dict; None: all, set by set.
    """

    def __init__(self, sets: Sequence[InstanceSet], rows: np.ndarray | None = None) -> None:
        self._sets = tuple(sets)
        if rows is None:
            numbers = np.repeat(np.arange(len(sets)), list(map(len, sets)))
            images = np.concatenate([np.zeros(0, np.int64), *map(np.arange, map(len, sets))])
            rows = np.stack([numbers, images], axis=1)
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> DatasetDicts: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | DatasetDicts:
        if isinstance(index, slice):
            return DatasetDicts(self._sets, self._rows[index])
        number, image = self._rows[index].tolist()
        return self._sets[number].record(image)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return NotImplemented
        return all(own == others for own, others in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def joined(cls, parts: Iterable[DatasetDicts]) -> DatasetDicts:
        """The dicts of all parts, one part after the other."""
        sets: list[InstanceSet] = []
        rows = [np.zeros((0, 2), np.int64)]
        for part in parts:
            rows.append(part._rows + [len(sets), 0])
            sets.extend(part._sets)
        return cls(sets, np.concatenate(rows))

    def with_masks(self, with_masks: bool) -> DatasetDicts:
        """The same images with what is trained on when masks are learned, or are not."""
        sets = [
            InstanceSet(own.annotations, own.folder, with_masks=with_masks) for own in self._sets
        ]
        return DatasetDicts(sets, self._rows)

    def with_instances(self) -> DatasetDicts:
        """The images that show an instance, crowd and ignored regions left out."""
        images, _ = self.instance_classes()
        return DatasetDicts(self._sets, self._rows[np.unique(images)])

    def instance_classes(self, *, with_crowd: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Every instance as two numbers, without making dicts; ignored regions are left out.

        Args:
            with_crowd: whether crowd regions are among them.

        Returns:
            (n,) int64 place of the dict, ascending, and (n,) int64 class.
        """
        image_index, classes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number, instances in enumerate(self._sets):
            annotations = instances.annotations
            wanted = instances.is_counted
            if with_crowd:
                wanted = instances.is_taken & ~annotations.is_ignored
            dicts = np.flatnonzero(self._rows[:, 0] == number)
            places, owners = _places_of(annotations, self._rows[dicts, 1])
            kept = wanted[places]
            image_index.append(dicts[owners[kept]])
            classes.append(annotations.classes[places[kept]].astype(np.int64))
        owners_of_all, classes_of_all = np.concatenate(image_index), np.concatenate(classes)
        order = np.argsort(owners_of_all, kind="stable")
        return owners_of_all[order], classes_of_all[order]

    def images(self) -> list[dict[str, Any]]:
        """The dicts without annotations and LVIS's lists, which are quickly made."""
        return [self._sets[number].image(image) for number, image in self._rows.tolist()]

    def mask_kinds(self) -> np.ndarray:
        """(n,) uint8 `MaskKind` of every instance, crowd and ignored regions left out."""
        kinds = [np.zeros(0, np.uint8)]
        for number, instances in enumerate(self._sets):
            places, _ = _places_of(instances.annotations, self._rows[self._rows[:, 0] == number, 1])
            kinds.append(instances.annotations.masks.kinds[places[instances.is_counted[places]]])
        return np.concatenate(kinds)

    @property
    def annotations(self) -> tuple[Annotations, ...]:
        """What each file holds."""
        return tuple(instances.annotations for instances in self._sets)

    @property
    def sizes(self) -> np.ndarray:
        """(N, 2) int64 height and width of each image in px."""
        sizes = np.zeros((len(self), 2), np.int64)
        for number, instances in enumerate(self._sets):
            own = self._rows[:, 0] == number
            sizes[own] = instances.annotations.image_table.sizes[self._rows[own, 1]]
        return sizes


def join_dicts(parts: Sequence[Sequence[dict[str, Any]]]) -> Sequence[dict[str, Any]]:
    """The dicts of several data sets, one after the other; made when asked for if all are."""
    lazy = [part for part in parts if isinstance(part, DatasetDicts)]
    if len(lazy) == len(parts):
        return DatasetDicts.joined(lazy)
    return [record for part in parts for record in part]


def _places_of(annotations: Annotations, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the annotations of the images, and which entry of `images` each belongs to."""
    starts, lengths = annotations.by_image.offsets[images], annotations.by_image.lengths[images]
    owners = np.repeat(np.arange(len(images)), lengths)
    within = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return annotations.by_image.values[starts[owners] + within], owners


def load_annotations(
    json_file: str | Path,
    image_root: str | Path,
    dataset_name: str | None = None,
    *,
    match_file_names: str = "exact",
    trust_annotations: bool = False,
) -> DatasetDicts:
    """Read a COCO- or LVIS-style json as detectron2 dataset dicts.

    Category ids need not be contiguous; `category_id`, `neg_category_ids` and
    `not_exhaustive_category_ids` of the result are indices of the classes ordered by id.
    Polygons with fewer than three points or without extent are left out, and so is an instance
    that keeps none, where the file has masks at all, or whose box is empty; its image stays. An
    image without LVIS's two lists counts as annotated completely; its dict then leaves them out.

    Args:
        json_file: COCO- or LVIS-style annotations.
        image_root: folder that the images' `file_name` is relative to. Where LVIS gives only
            `coco_url`, its last two parts (`train2017/000000000009.jpg`) are.
        dataset_name: if given, the metadata of this data set are set, as detectron2's loaders do.
        match_file_names: "exact" or "basename", see `ImageFolder.of`.
        trust_annotations: take a file that looks as if it meant something else, such as boxes by
            their corners.

    Returns:
        One dict an image, ordered by image id, with `file_name`, `image_id`, `height`, `width`
        (px) and `annotations`: `bbox` (x, y, width, height in px), `bbox_mode`, `category_id`,
        and where the json has them `iscrowd` and `segmentation` (polygons or compressed RLE);
        `ignored_regions` where it has some: boxes of what is no object.

    Raises:
        FileNotFoundError: there is no such json.
        AnnotationError: the json cannot be used; see `read_annotations`.
    """
    annotations = read_annotations(json_file)
    require_trust(annotations, is_trusted=trust_annotations)
    folder = ImageFolder.of(annotations, image_root, match_file_names)
    records = DatasetDicts([InstanceSet(annotations, folder)])
    if dataset_name is not None:
        set_loaded_metadata(dataset_name, file_metadata(annotations))
    warn_once(annotations)
    images, _ = records.instance_classes()
    num_empty = len(records) - len(np.unique(images))
    logger.info(
        "Loaded %s%s with %s of %s from %s.",
        counted(len(records), "image"),
        f" ({num_empty} without an instance)" if num_empty else "",
        counted(len(images), "instance"),
        counted(annotations.num_classes, "class"),
        annotations.facts.source,
    )
    return records


def file_metadata(annotations: Annotations) -> dict[str, Any]:
    """Metadata that the json decides, under detectron2's names.

    Returns:
        `thing_classes`, `thing_dataset_id_to_contiguous_id`, `evaluator_type` ("lvis" with LVIS's
        fields, else "long_tailed"), `class_frequency` ("r", "c" or "f" a class; None without the
        field), `class_image_count` (dicts of `id`, `image_count` and perhaps `instance_count`;
        None without the field).
    """
    categories = annotations.facts.categories
    counts = None
    if all("image_count" in category for category in categories):
        names = ("id", "image_count", "instance_count")
        counts = [{name: c[name] for name in names if name in c} for c in categories]
    return {
        "thing_classes": annotations.class_names,
        "thing_dataset_id_to_contiguous_id": annotations.contiguous_ids,
        "evaluator_type": "lvis" if annotations.is_lvis_style else "long_tailed",
        "class_frequency": annotations.frequency if all(annotations.frequency) else None,
        "class_image_count": counts,
    }


def set_loaded_metadata(name: str, from_file: dict[str, Any]) -> None:
    """Set what a json decides, where nothing else has decided it before."""
    known = vars(MetadataCatalog.get(name))
    # Not setattr: detectron2's asks for the old value first, which would read the json again.
    known.update({key: value for key, value in from_file.items() if key not in known})
