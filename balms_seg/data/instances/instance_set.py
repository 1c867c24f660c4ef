"""The dataset dicts of one annotation file, made from its arrays when they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from balms_seg.annotations import (
    AnnotationError,
    Annotations,
    ImageFolder,
    MaskKind,
    is_trained_on,
    open_annotations,
    require_boxes,
    require_whole_masks,
    with_image_sizes,
)


class InstanceSet:
    """The images of an annotation file with what can be trained on.

    Args:
        annotations: of the file; sizes of images that it lacks are read from their headers.
        folder: where the images lie.
        with_masks: whether masks are learned; an instance whose mask has no extent is then left
            out, and a damaged mask is an error. Else masks play no part, and only good ones are in
            the dicts. None: whether the file has masks; a damaged one is an error when its dict is
            asked for.

    Attributes:
        is_taken: (A,) bool, which annotations are in the dicts.
        is_counted: (A,) bool, which of them are no crowd or ignored regions.

    Raises:
        AnnotationError: there is no image, an image has no name, an annotation no box, or a mask
            is damaged.
    """

    def __init__(
        self,
        annotations: Annotations,
        folder: ImageFolder,
        *,
        with_masks: bool | None = None,
    ) -> None:
        self.folder = folder
        self.with_masks = annotations.has_masks if with_masks is None else with_masks
        nameless = np.flatnonzero(annotations.image_table.paths.characters.lengths == 0)
        if len(nameless):
            raise AnnotationError(
                f"Image {annotations.image_table.ids[int(nameless[0])]} in "
                f"{annotations.facts.source} has neither file_name nor coco_url."
            )
        if not len(annotations.image_table):
            raise AnnotationError(f"The list of images in {annotations.facts.source} is empty.")
        annotations = self.annotations = with_image_sizes(annotations, folder)
        require_boxes(annotations)
        if with_masks:
            require_whole_masks(annotations)
        self.is_taken = is_trained_on(annotations, with_masks=self.with_masks)
        self.is_counted = self.is_taken & ~annotations.is_crowd & ~annotations.is_ignored

    def __len__(self) -> int:
        return len(self.annotations.image_table)

    def __reduce__(self) -> tuple[Any, ...]:
        annotations = self.annotations
        shared = annotations if annotations.cache_file is None else annotations.cache_file
        return _restore, (shared, annotations.facts.source, self.folder, self.with_masks)

    def record(self, image: int) -> dict[str, Any]:
        """The dataset dict of an image, in detectron2's form.

        "ignored_regions", where there are any, are boxes x, y, width, height of what is no object.
        """
        table = self.annotations.image_table
        places = self.annotations.by_image[image]
        record = self.image(image)
        is_ignored = self.annotations.is_ignored[places]
        taken = self.is_taken[places]
        record["annotations"] = [
            self._instance(place) for place in places[taken & ~is_ignored].tolist()
        ]
        if is_ignored.any():
            record["ignored_regions"] = self.annotations.boxes[places[taken & is_ignored]].tolist()
        if table.has_negatives[image]:
            record["neg_category_ids"] = table.negatives[image].tolist()
        if table.has_not_exhaustive[image]:
            record["not_exhaustive_category_ids"] = table.not_exhaustive[image].tolist()
        return record

    def image(self, image: int) -> dict[str, Any]:
        """The same without what is annotated."""
        table = self.annotations.image_table
        height, width = table.sizes[image].tolist()
        return {
            "file_name": self.folder.path(table.paths[image]),
            "image_id": table.ids[image],
            "height": height,
            "width": width,
        }

    def _instance(self, place: int) -> dict[str, Any]:
        annotations = self.annotations
        instance = {
            "bbox": annotations.boxes[place].tolist(),
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": int(annotations.classes[place]),
        }
        if annotations.has_crowd_flag[place]:
            instance["iscrowd"] = int(annotations.is_crowd[place])
        kind = annotations.masks.kinds[place]
        if kind == MaskKind.DAMAGED and self.with_masks:
            require_whole_masks(annotations)
        if kind == MaskKind.POLYGONS:
            polygons = annotations.masks.polygons(place, with_extent=True)
            if polygons:
                instance["segmentation"] = [polygon.tolist() for polygon in polygons]
        elif kind in (MaskKind.RLE_TEXT, MaskKind.RLE_RUNS):
            instance["segmentation"] = annotations.run_lengths(place)
        return instance


def _restore(
    shared: Annotations | Path, source: str, folder: ImageFolder, with_masks: bool
) -> InstanceSet:
    """An instance set in another process, which maps the arrays instead of getting them."""
    if isinstance(shared, Path):
        shared = open_annotations(shared, source)
    return InstanceSet(shared, folder, with_masks=with_masks)
