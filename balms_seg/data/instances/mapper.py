"""From a data set dict to a model input."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from detectron2.data import DatasetMapper


class TrainingMapper(DatasetMapper):
    """detectron2's training mapper, which also crops images without annotations."""

    def _transform_annotations(
        self, dataset_dict: dict, transforms: Any, image_shape: tuple[int, int]
    ) -> None:
        mapper = copy.copy(self)
        # detectron2 recomputes cropped boxes from the masks, which an image without objects lacks
        mapper.recompute_boxes = self.recompute_boxes and any(
            not annotation.get("iscrowd", 0) for annotation in dataset_dict["annotations"]
        )
        super(TrainingMapper, mapper)._transform_annotations(dataset_dict, transforms, image_shape)


def build_mapper(cfg: Any) -> Callable[[dict], dict | None]:
    """The training mapper of a configuration: detectron2's augmentations, random crops and all."""
    return TrainingMapper(cfg, True)
