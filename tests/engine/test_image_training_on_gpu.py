"""Image classifiers on a GPU, with the images there as well."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_runs import run_image_training
from image_sets import write_image_sets


@pytest.mark.gpu
@pytest.mark.parametrize("mixed_precision", [False, True])
def test_everything_trains_and_evaluates(mixed_precision: bool, tmp_path: Path) -> None:
    settings = {
        **write_image_sets(tmp_path),
        "MODEL.DEVICE": "cuda",
        "MODEL.IMAGE_CLASSIFIER.METHOD": "balanced_softmax",
        "INPUT.IMAGES.AUGMENTATIONS": ["crop_flip", "autoaugment", "cutout"],
        "INPUT.IMAGES.MIXUP": 0.4,
        "INPUT.IMAGES.CUTMIX": 1.0,
        "SOLVER.EMA_DECAY": 0.9,
        "SOLVER.AMP.ENABLED": mixed_precision,
    }
    one = run_image_training(settings, tmp_path / "one", "--num-gpus", "1")
    assert one.model.device.type == "cuda"
    assert next(iter(one._trainer.data_loader)).images.device.type == "cuda"
    second = {
        **settings,
        "INPUT.IMAGES.MIXUP": 0.0,
        "INPUT.IMAGES.CUTMIX": 0.0,
        "MODEL.WEIGHTS": str(tmp_path / "one" / "model_final.pth"),
        "MODEL.TRAIN_ONLY": ["classifier"],
        "META.LEARN": "weights",
    }
    results = run_image_training(second, tmp_path / "two", "--num-gpus", "1")._last_eval_results
    assert 0 <= results["classification"]["top1"] <= 100
