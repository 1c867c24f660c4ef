"""The sheet of training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_sets import SMALL, TRAIN_COUNTS, picture, write_image_sets
from made_up_data import words
from PIL import Image

from balms_seg.data import register_from_config
from balms_seg.data.instances.visualization import draw_training_data
from balms_seg.engine import load_config
from balms_seg.engine.jobs.choice import build_job
from balms_seg.model_zoo import get_config_file


@pytest.mark.parametrize(
    ("source", "more", "side"),
    [
        ("annotation", {}, 5),  # all 20 images
        ("dataloader", {}, 6),
        ("dataloader", {"INPUT.IMAGES.MIXUP": 0.5}, 6),
        ("dataloader", {"INPUT.IMAGES.IN_MEMORY": False}, 6),
    ],
    ids=["annotation", "dataloader", "mixed", "decoded on the fly"],
)
def test_it_has_a_tile_for_each_image(source: str, more: dict, side: int, tmp_path: Path) -> None:
    settings = {**SMALL, **write_image_sets(tmp_path), **more}
    cfg = load_config(get_config_file("classification/base.yaml"), words(settings))
    register_from_config(cfg)
    training_set = build_job(cfg).load_training_set()
    (path,) = draw_training_data(cfg, training_set, tmp_path / "out", num_images=36, source=source)
    with Image.open(path) as sheet:
        rows = 4 if source == "annotation" else side
        assert sheet.size == (side * 128, rows * 146)
        if source == "annotation":
            assert sum(TRAIN_COUNTS) == 20
            first = sheet.crop((0, 0, 128, 128)).resize((8, 8), Image.Resampling.NEAREST)
            assert np.array_equal(np.asarray(first), np.asarray(picture(0, 0)))
