"""From a data set dict to a model input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from detectron2.config import get_cfg
from detectron2.structures import BoxMode
from PIL import Image

from balms_seg import add_balms_config
from balms_seg.data.instances.mapper import InstanceMapper


class Outline(list):
    """One that must not be copied, as that of a large image costs time."""

    def __deepcopy__(self, memo: dict) -> Outline:
        raise AssertionError("copied")


def test_boxes_alone_need_no_copy_of_outlines(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    record = {"file_name": str(tmp_path / "a.png"), "height": 20, "width": 30, "image_id": 1}
    box = {"bbox": [3, 4, 10, 8], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 2}
    outline = Outline([[3, 4, 13, 4, 13, 12]])
    cfg = get_cfg()
    add_balms_config(cfg)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (40,), 60
    cfg.INPUT.RANDOM_FLIP = "none"
    mapper = InstanceMapper(cfg, True)
    annotation = {**box, "segmentation": outline}
    instances = mapper({**record, "annotations": [annotation]})["instances"]
    assert annotation == {**box, "segmentation": outline}
    assert torch.equal(instances.gt_boxes.tensor, torch.tensor([[6.0, 8.0, 26.0, 24.0]]))
    assert instances.gt_classes.tolist() == [2]
    assert not instances.has("gt_masks")
    assert "instances" not in mapper(record)
