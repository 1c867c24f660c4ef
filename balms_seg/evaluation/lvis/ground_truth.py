"""What the evaluation needs of LVIS- or COCO-style annotations.

Symbols: I images, K classes, n annotations. Images and classes are indexed by ascending id.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from balms_seg.annotations import (
    Annotations,
    ImageFolder,
    MaskKind,
    annotations_of,
    require_boxes,
    require_trust,
    require_whole_masks,
    warn_once,
    with_image_sizes,
)
from balms_seg.evaluation.lvis.federated import federated_rules

#: LVIS's frequency letters, rarest first, with the names that tables use.
FREQUENCY_GROUPS = {"r": "rare", "c": "common", "f": "frequent"}
#: Detections of an image that count, by score.
LVIS_MAX_DETECTIONS = 300


class Segmentations(Sequence[Any]):
    """The masks of n annotations, polygons or RLE, made when they are asked for.

    Args:
        annotations: of the json.
        places: (n,) int64 which of its annotations.
    """

    def __init__(self, annotations: Annotations, places: np.ndarray) -> None:
        self._annotations = annotations
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Segmentations(self._annotations, self._places[index])
        return self._annotations.segmentation(int(self._places[index]))

    def annotation_id(self, index: int) -> int | str | None:
        """The json's id of one's annotation; None where it has none."""
        return self._annotations.ids[int(self._places[index])]

    def take(self, rows: np.ndarray) -> Segmentations:
        """The chosen ones."""
        return Segmentations(self._annotations, self._places[rows])


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Validated ground truth of one evaluation set.

    Attributes:
        image_ids: (I,) ids of the json, ascending.
        image_sizes: (I,) pairs (height, width) in pixels; None where they are unknown.
        category_ids: (K,) ids of the json, ascending.
        class_names: (K,) names.
        frequency: (K,) "r", "c" or "f"; "" where the group is unknown.
        image_counts: (K,) the json's `image_count`; None where it has none.
        is_verified: (I, K) bool, the class has ground truth in the image or is a verified negative.
        is_not_exhaustive: (I, K) bool, unmatched detections of the class are ignored in the image.
        images: (n,) int64 image index of each annotation.
        classes: (n,) int64 class index.
        areas: (n,) float64 in square pixels.
        is_ignored: (n,) bool, neither found nor missed: the json's `ignore`, and crowd regions.
        is_crowd: (n,) bool, regions that any number of detections may lie in.
        boxes: (n, 4) float64, x, y, width, height in pixels.
        mask_kinds: (n,) uint8 of `MaskKind`.
        segmentations: (n,) polygons or RLE; None where there is none.
        annotations: all of the json.
    """

    image_ids: tuple[Any, ...]
    image_sizes: tuple[tuple[int, int] | None, ...]
    category_ids: tuple[Any, ...]
    class_names: tuple[str, ...]
    frequency: tuple[str, ...]
    image_counts: tuple[int | None, ...]
    is_verified: np.ndarray
    is_not_exhaustive: np.ndarray
    images: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    is_ignored: np.ndarray
    is_crowd: np.ndarray
    boxes: np.ndarray
    mask_kinds: np.ndarray
    segmentations: Segmentations
    annotations: Annotations

    @property
    def num_images(self) -> int:
        """Number of images, I."""
        return len(self.image_ids)

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.category_ids)

    @property
    def has_masks(self) -> bool:
        """Whether masks can be evaluated: all annotations have one, flat ones beside others."""
        kinds = set(self.mask_kinds.tolist())
        return MaskKind.NONE not in kinds and kinds != {int(MaskKind.DEGENERATE)}

    def instance_counts(self) -> np.ndarray:
        """Annotations per class, (K,) int64, without ignored ones."""
        return np.bincount(self.classes[~self.is_ignored], minlength=self.num_classes)

    def for_task(self, iou_type: str) -> GroundTruth:
        """What counts in a task: for boxes everything, for masks what has one.

        An annotation whose polygons all have fewer than three points is no object for masks; its
        class counts as not exhaustively annotated in the image.

        Args:
            iou_type: "bbox", "segm" or "boundary".

        Raises:
            ValueError: masks are evaluated, and one is missing or damaged.
        """
        if iou_type == "bbox":
            return self
        require_whole_masks(self.annotations)
        missing = np.flatnonzero(self.mask_kinds == MaskKind.NONE)
        if len(missing):
            raise ValueError(
                f"Expected a mask for every annotation to compute {iou_type} AP, but "
                f"{len(missing)} of {len(self.images)} have none, the first in image "
                f"{self.image_ids[self.images[missing[0]]]}; evaluate boxes only or add the masks."
            )
        is_flat = self.mask_kinds == MaskKind.DEGENERATE
        if not is_flat.any():
            return self
        is_not_exhaustive = self.is_not_exhaustive.copy()
        is_not_exhaustive[self.images[is_flat], self.classes[is_flat]] = True
        return dataclasses.replace(
            self.take(np.flatnonzero(~is_flat)), is_not_exhaustive=is_not_exhaustive
        )

    def take(self, rows: np.ndarray) -> GroundTruth:
        """The chosen annotations alone, of all images and classes."""
        names = ("images", "classes", "areas", "is_ignored", "is_crowd", "boxes", "mask_kinds")
        taken: dict[str, Any] = {name: getattr(self, name)[rows] for name in names}
        return dataclasses.replace(self, **taken, segmentations=self.segmentations.take(rows))


def load_ground_truth(
    source: str | Path | Mapping[str, Any] | Annotations,
    *,
    class_frequency: Mapping[Any, str] | None = None,
    own_groups: bool = True,
    image_root: str | Path | None = None,
    match_file_names: str = "exact",
    trust_annotations: bool = False,
) -> GroundTruth:
    """Take from annotations what the evaluation needs.

    A json whose images have LVIS's lists is evaluated as lvis-api does: it reads no `iscrowd`, so
    crowd regions are objects, and annotations without area are dropped. Any other is evaluated as
    pycocotools does: a class that has no annotation in an image counts as verified absent from it;
    crowd regions are ignored, and a detection of any size may lie in one.

    Of what was read from a file it is made once in a process, whatever the groups.

    Args:
        source: path of the json, its content, or what was read from it.
        class_frequency: "r", "c" or "f" per category id, derived from the training set.
        own_groups: whether the json's own `frequency` wins over these.
        image_root: folder of the images, for sizes that the json lacks.
        match_file_names: see `ImageFolder.of`.
        trust_annotations: take a file that looks as if it meant something else.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the json cannot be read, lacks a required part or contradicts itself.
    """
    annotations = annotations_of(source)
    require_trust(annotations, is_trusted=trust_annotations)
    if image_root is not None:
        folder = ImageFolder.of(annotations, image_root, match_file_names)
        annotations = with_image_sizes(annotations, folder)
    build = build_ground_truth.__wrapped__ if isinstance(source, Mapping) else build_ground_truth
    return dataclasses.replace(
        build(annotations),
        frequency=_frequency(annotations, class_frequency or {}, own_groups=own_groups),
    )


@lru_cache(maxsize=4)
def build_ground_truth(annotations: Annotations) -> GroundTruth:
    """Ground truth with the groups that the json itself has; see `load_ground_truth`."""
    require_boxes(annotations)
    warn_once(annotations)
    table = annotations.image_table
    is_lvis_style = annotations.is_lvis_style
    kept = np.arange(len(annotations))
    if is_lvis_style:
        kept = np.flatnonzero(annotations.areas > 0)
    is_crowd = annotations.is_crowd & (not is_lvis_style)
    is_verified, is_not_exhaustive = federated_rules(annotations, positive=kept)
    sizes = table.sizes.tolist()
    return GroundTruth(
        image_ids=tuple(table.ids.to_list()),
        image_sizes=tuple((height, width) if height and width else None for height, width in sizes),
        category_ids=tuple(annotations.contiguous_ids),
        class_names=tuple(annotations.class_names),
        frequency=_frequency(annotations, {}, own_groups=True),
        image_counts=tuple(c.get("image_count") for c in annotations.facts.categories),
        is_verified=is_verified,
        is_not_exhaustive=is_not_exhaustive,
        images=annotations.images[kept].astype(np.int64),
        classes=annotations.classes[kept].astype(np.int64),
        areas=annotations.areas[kept],
        is_ignored=(annotations.is_ignored | is_crowd)[kept],
        is_crowd=is_crowd[kept],
        boxes=annotations.boxes[kept],
        mask_kinds=annotations.masks.kinds[kept],
        segmentations=Segmentations(annotations, kept),
        annotations=annotations,
    )


def _frequency(
    annotations: Annotations, class_frequency: Mapping[Any, str], *, own_groups: bool
) -> tuple[str, ...]:
    letters = tuple(
        str((own_groups and own) or class_frequency.get(identifier) or "")
        for identifier, own in zip(annotations.contiguous_ids, annotations.frequency, strict=True)
    )
    wrong = sorted({letter for letter in letters if letter and letter not in FREQUENCY_GROUPS})
    if wrong:
        raise ValueError(f"Expected a class frequency of 'r', 'c' or 'f', but got {wrong}.")
    return letters
