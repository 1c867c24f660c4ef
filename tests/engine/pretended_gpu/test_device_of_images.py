"""Image classifiers on the device: every augmentation and method; and that a mistake is seen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from image_runs import run_image_training
from image_sets import write_image_sets
from runs import OF_METHODS, copy_interrupted

from balms_seg import image_batch
from balms_seg.methods import METHODS

CUDA = {"MODEL.DEVICE": "cuda", "SOLVER.MAX_ITER": 2}
ON_IT = ("--num-gpus", "1")
AUGMENTED = {
    "INPUT.IMAGES.AUGMENTATIONS": ["crop_flip", "autoaugment", "cutout"],
    "INPUT.IMAGES.MIXUP": 0.4,
    "INPUT.IMAGES.CUTMIX": 1.0,
    "SOLVER.EMA_DECAY": 0.9,
}
IN_WORKERS = ["crop_flip", "color_jitter", "autoaugment", "randaugment", "cutout"]


@pytest.mark.parametrize("dtype", ["", "float16", "bfloat16"])
def test_every_augmentation_trains_and_evaluates(dtype: str, tmp_path: Path) -> None:
    precision = {"SOLVER.AMP.ENABLED": True, "SOLVER.AMP.DTYPE": dtype} if dtype else {}
    settings = {**write_image_sets(tmp_path), **CUDA, **AUGMENTED, **precision}
    settings["MODEL.IMAGE_CLASSIFIER.METHOD"] = "balanced_softmax"
    trainer = run_image_training(settings, tmp_path / "run", *ON_IT)
    assert next(iter(trainer._trainer.data_loader)).images.device.type == "cuda"
    assert 0 <= trainer._last_eval_results["classification"]["top1"] <= 100


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_evaluates(method: str, tmp_path: Path) -> None:
    chosen = {"MODEL.IMAGE_CLASSIFIER.METHOD": method, **OF_METHODS.get(method, {})}
    settings = {**write_image_sets(tmp_path), **CUDA, **chosen}
    trainer = run_image_training(settings, tmp_path / "run", *ON_IT)
    assert all(value.isfinite().all() for value in trainer.model.state_dict().values())
    assert "classification" in trainer._last_eval_results


def test_it_trains_from_the_files(tmp_path: Path) -> None:
    files = {"INPUT.IMAGES.IN_MEMORY": False, "INPUT.IMAGES.AUGMENTATIONS": IN_WORKERS}
    settings = {**write_image_sets(tmp_path), **CUDA, **files}
    trainer = run_image_training(settings, tmp_path / "run", *ON_IT)
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())


def test_a_resumed_run_ends_as_the_uninterrupted_one(tmp_path: Path) -> None:
    settings = {**write_image_sets(tmp_path), **CUDA, **AUGMENTED, "DATASETS.TEST": ()}
    settings["SOLVER.CHECKPOINT_PERIOD"] = 1
    straight = run_image_training(settings, tmp_path / "straight", *ON_IT)
    copy_interrupted(tmp_path / "straight", tmp_path / "halves", "model_0000000.pth")
    resumed = run_image_training(settings, tmp_path / "halves", *ON_IT, "--resume")
    assert resumed.start_iter == 1
    for one, other in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(one.cpu(), other.cpu(), rtol=1e-4, atol=1e-5)


def test_its_calibration_is_applied_there(tmp_path: Path) -> None:
    settings = {**write_image_sets(tmp_path), **CUDA}
    settings["MODEL.IMAGE_CLASSIFIER.CALIBRATION.TEMPERATURE"] = 2.0
    trainer = run_image_training(settings, tmp_path / "run", *ON_IT)
    assert 0 <= trainer._last_eval_results["classification"]["top1"] <= 100


def test_labels_that_stay_on_the_cpu_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = image_batch.sent
    monkeypatch.setattr(
        image_batch,
        "sent",
        lambda tensor, device: tensor.cpu() if tensor.dim() == 1 else right(tensor, device),
    )
    settings = {**write_image_sets(tmp_path), **CUDA}
    with pytest.raises(RuntimeError, match="device"):
        run_image_training(settings, tmp_path / "run", *ON_IT)
