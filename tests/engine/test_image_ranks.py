"""How images are shared out among processes changes neither their classifier nor results."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gloo_ranks import gloo_rank
from image_runs import run_image_training
from image_sets import write_image_sets
from runs import read_checkpoint

from balms_seg.engine.launch import _create_local_group

DECOUPLED = {
    "MODEL.TRAIN_ONLY": ["classifier"],
    "MODEL.IMAGE_CLASSIFIER.METHOD": "balanced_softmax",
    "INPUT.IMAGES.AUGMENTATIONS": ["crop_flip", "autoaugment", "cutout"],
    "SOLVER.MAX_ITER": 10,
}


def train_on_rank(rank: int, settings: dict, folder: str) -> None:
    with gloo_rank(rank, folder):
        _create_local_group(2)
        trainer = run_image_training(settings, Path(folder) / "two")
        torch.save(
            {
                "model": trainer.checkpointer.model.state_dict(),
                "results": trainer._last_eval_results,
            },
            f"{folder}/{rank}.pth",
        )


@pytest.mark.slow
def test_one_process_and_two_train_and_evaluate_alike(tmp_path: Path) -> None:
    images = write_image_sets(tmp_path)
    run_image_training({**images, "DATASETS.TEST": ()}, tmp_path / "stage_one")
    weights = {"MODEL.WEIGHTS": str(tmp_path / "stage_one" / "model_final.pth")}
    settings = {**images, **DECOUPLED, **weights}
    one = run_image_training(settings, tmp_path / "one")
    torch.multiprocessing.spawn(train_on_rank, (settings, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{r}.pth", weights_only=False) for r in range(2))
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(first["model"][name], value, rtol=1e-3, atol=1e-5)
        assert torch.equal(first["model"][name], second["model"][name])
    whole = one._last_eval_results["classification"]
    for name, value in first["results"]["classification"].items():
        assert value == pytest.approx(whole[name], abs=1e-3, nan_ok=True), name
    assert not second["results"]  # the main process reports


@pytest.mark.slow
def test_the_whole_model_trains_on_two_processes(tmp_path: Path) -> None:
    images = write_image_sets(tmp_path)
    settings = {**images, "SOLVER.EMA_DECAY": 0.5, "SOLVER.MAX_ITER": 3}
    torch.multiprocessing.spawn(train_on_rank, (settings, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{r}.pth", weights_only=False) for r in range(2))
    for name, value in first["model"].items():
        if "running_" not in name:  # each process has the statistics of its own images
            torch.testing.assert_close(value, second["model"][name], rtol=1e-6, atol=1e-7)
    content = read_checkpoint(tmp_path / "two" / "model_final.pth")
    assert content["weight_average"]["num_averaged"] == 3
