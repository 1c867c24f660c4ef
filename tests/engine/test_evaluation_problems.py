"""What would end a run in its evaluation is said before it starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from balms_seg.config import add_balms_config
from balms_seg.data.preflight.data_checks import PreflightError
from balms_seg.engine.jobs.detection import DetectionJob

SQUARE = [2.0, 2.0, 10.0, 2.0, 10.0, 10.0, 2.0, 10.0]


def config(tmp_path: Path, **annotation: object) -> object:
    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": 16, "width": 20}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 8, 8]}
            | {"segmentation": [SQUARE]}
            | annotation
        ],
    }
    Image.new("RGB", (20, 16)).save(tmp_path / "1.png")
    (tmp_path / "val.json").write_text(json.dumps(content))
    cfg = get_cfg()
    add_balms_config(cfg)
    name = f"{tmp_path.name}_val"
    cfg.DATASETS.REGISTER = [[name, str(tmp_path / "val.json"), str(tmp_path)]]
    cfg.DATASETS.TEST, cfg.DATASETS.TRAIN = (name,), ()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    cfg.MODEL.MASK_ON = True
    cfg.OUTPUT_DIR = str(tmp_path / "output")
    return cfg


def test_a_set_that_can_be_evaluated_on_passes(tmp_path: Path) -> None:
    DetectionJob(config(tmp_path)).check_data(training=False)


@pytest.mark.parametrize("mask_on", [True, False])
def test_a_crowd_without_a_mask_stops_what_evaluates_masks(mask_on: bool, tmp_path: Path) -> None:
    """It is not trained on, so that no other check looks at it."""
    cfg = config(tmp_path, iscrowd=1, segmentation=[])
    cfg.MODEL.MASK_ON = mask_on
    if not mask_on:
        DetectionJob(cfg).check_data(training=False)
        return
    with pytest.raises(PreflightError, match="Expected a mask for every annotation"):
        DetectionJob(cfg).check_data(training=False)


def test_a_set_without_a_json_is_named(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    name = f"{tmp_path.name}_own"
    record = {"file_name": str(tmp_path / "1.png"), "height": 16, "width": 20, "annotations": []}
    DatasetCatalog.register(name, lambda: [record])
    MetadataCatalog.get(name).thing_classes = ["cat"]
    cfg.DATASETS.TEST = (name,)
    with pytest.raises(PreflightError, match=f"'{name}': Expected the metadata .* json_file"):
        DetectionJob(cfg).check_data(training=False)
