"""From a data set dict to a model input."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data.transforms import AugInput
from detectron2.structures import Boxes
from detectron2.utils.file_io import PathManager

from balms_seg.data.instances.known_classes import known_classes
from balms_seg.decoding import decode_image
from balms_seg.training_objects import TrainingObjects


class InstanceMapper(DatasetMapper):
    """detectron2's mapper, with this package's decoder; it also crops images without annotations.

    Semantic segmentation, which no model of this package reads, is left out.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        pixel_range: tuple[float, ...] = (),
        partial_classes: int = 0,
        **options: Any,
    ) -> None:
        """Take detectron2's options.

        Args:
            is_train: whether to map annotations, too.
            pixel_range: as for `decode_image`.
            partial_classes: K where labels are partial, whose objects then say what is known.
            options: as for `DatasetMapper`.
        """
        super().__init__(is_train, **options)
        self.pixel_range, self.partial_classes = pixel_range, partial_classes

    @classmethod
    def from_config(cls, cfg: Any, is_train: bool = True) -> dict[str, Any]:
        """Arguments from a configuration."""
        options = super().from_config(cfg, is_train)
        pixel_range = cfg.INPUT.get("PIXEL_RANGE", ())  # one of plain detectron2 has no such key
        is_partial = cfg.MODEL.get("PARTIAL_LABELS", False)
        return {
            **options,
            "pixel_range": tuple(pixel_range),
            "partial_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES if is_partial else 0,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """The record with "image", (C, H, W), and in training "instances"."""
        record = copy.deepcopy(dataset_dict if self.use_instance_mask else _maskless(dataset_dict))
        pixels = decode_image(
            PathManager.get_local_path(record["file_name"]),
            self.image_format,
            pixel_range=self.pixel_range,
        )
        detection_utils.check_image_size(record, pixels)
        augmented = AugInput(pixels)
        transforms = self.augmentations(augmented)
        height, width = augmented.image.shape[:2]
        record["image"] = torch.as_tensor(np.ascontiguousarray(augmented.image.transpose(2, 0, 1)))
        if self.proposal_topk is not None:
            detection_utils.transform_proposals(
                record, (height, width), transforms, proposal_topk=self.proposal_topk
            )
        if not self.is_train:
            record.pop("annotations", None)
        elif "annotations" in record:
            self._transform_annotations(record, transforms, (height, width))
        return record

    def _transform_annotations(
        self, dataset_dict: dict, transforms: Any, image_shape: tuple[int, int]
    ) -> None:
        regions, known = dataset_dict.pop("ignored_regions", None), None
        if self.partial_classes:  # what a crop leaves out was looked for, too
            known = known_classes(dataset_dict, self.partial_classes)
        mapper = copy.copy(self)
        # detectron2 recomputes cropped boxes from the masks, which an image without objects lacks
        mapper.recompute_boxes = self.recompute_boxes and any(
            not annotation.get("iscrowd", 0) for annotation in dataset_dict["annotations"]
        )
        super(InstanceMapper, mapper)._transform_annotations(dataset_dict, transforms, image_shape)
        if regions or known is not None:
            dataset_dict["instances"] = TrainingObjects(
                dataset_dict["instances"],
                ignored_boxes=_transformed(regions, transforms, image_shape) if regions else None,
                known_classes=known,
            )


def _maskless(record: dict[str, Any]) -> dict[str, Any]:
    """The record without outlines, most of what a copy of it costs."""
    if "annotations" not in record:
        return record
    annotations = [
        {key: value for key, value in annotation.items() if key != "segmentation"}
        for annotation in record["annotations"]
    ]
    return {**record, "annotations": annotations}


def _transformed(
    regions: Sequence[Sequence[float]], transforms: Any, image_shape: tuple[int, int]
) -> Boxes:
    """Regions x, y, width, height of an image as boxes in the input image."""
    corners = np.array(regions, np.float64)
    corners[:, 2:] += corners[:, :2]
    height, width = image_shape
    boxes = transforms.apply_box(corners).clip(0, [width, height, width, height])
    return Boxes(torch.as_tensor(boxes.astype("float32")))


def build_mapper(cfg: Any) -> InstanceMapper:
    """The training mapper of a configuration: detectron2's augmentations, random crops and all."""
    return InstanceMapper(cfg, True)


def build_test_mapper(cfg: Any) -> Callable[[dict], dict]:
    """The mapper for inference."""
    return InstanceMapper(cfg, False)
