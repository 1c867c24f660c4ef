"""Runs whose classifier starts as the discriminant of the training images' features."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from gloo_ranks import gloo_rank
from image_runs import build_image_trainer, run_image_training
from image_sets import CLASSES, NUM_CLASSES, SMALL, write_image_sets
from made_up_data import words
from PIL import Image
from torch import Tensor

from balms_seg.commands.command_line import run_command
from balms_seg.engine import LongTailedTrainer, classifier_start
from balms_seg.engine.launch import _create_local_group
from balms_seg.modeling.discriminant import FeatureSums, discriminant

START = {
    "MODEL.IMAGE_CLASSIFIER.METHOD": "balanced_softmax",
    "MODEL.TRAIN_ONLY": ["classifier"],
    "MODEL.INIT_CLASSIFIER": "discriminant",
    "MODEL.INIT_CLASSIFIER_SHRINKAGE": 0.4,
    "MODEL.INIT_CLASSIFIER_SCALE": 0.25,
    "DATASETS.TEST": (),
}


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Settings of a run on made-up features, of which the third class has none."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1], [7, 4]))
    values = rng.normal(size=(len(labels), 5)).astype(np.float32) + labels[:, None]
    path = tmp_path_factory.mktemp("features") / "made_up.npz"
    np.savez(path, features=values, labels=labels, class_names=CLASSES)
    return {
        **START,
        "DATASETS.REGISTER_IMAGES": [["discriminant_features", str(path), ""]],
        "DATASETS.TRAIN": ("discriminant_features",),
        "INPUT.IMAGES.AUGMENTATIONS": [],
        "MODEL.TRAIN_ONLY": [],
        "MODEL.IMAGE_CLASSIFIER.BACKBONE": "features",
        "MODEL.IMAGE_CLASSIFIER.EMPTY_CLASSES": "floor",
    }


def started(settings: dict, folder: Path, *flags: str) -> LongTailedTrainer:
    """Before the first iteration."""
    trainer = build_image_trainer(settings, folder, *flags)
    trainer.resume_or_load(resume="--resume" in flags)
    return trainer


def classifier_of(trainer: LongTailedTrainer) -> tuple[Tensor, Tensor]:
    layer = trainer.checkpointer.model.classifier
    return layer.weight.detach().clone(), layer.bias.detach().clone()


def by_hand(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What `START` makes of them."""
    counts = torch.bincount(labels, minlength=NUM_CLASSES)
    sums = FeatureSums(counts, features.shape[1])
    sums.add(features, labels)
    weights, biases = discriminant(*sums.moments(), counts, shrinkage=0.4)
    return (0.25 * weights).float(), (0.25 * biases).float()


def test_the_classifier_starts_as_the_discriminant_of_features(
    features: dict, tmp_path: Path
) -> None:
    content = np.load(features["DATASETS.REGISTER_IMAGES"][0][1])
    expected = by_hand(*(torch.from_numpy(content[name]) for name in ("features", "labels")))
    start = classifier_of(started(features, tmp_path))
    torch.testing.assert_close(start, expected)
    assert start[0][:2].all()
    assert not start[0][2].any()


def test_a_frozen_trunk_sees_the_training_images_as_in_evaluation(tmp_path: Path) -> None:
    images = write_image_sets(tmp_path)
    run_image_training({**images, "DATASETS.TEST": ()}, tmp_path / "trunk")
    weights = {"MODEL.WEIGHTS": str(tmp_path / "trunk" / "model_final.pth")}
    augmented = {"INPUT.IMAGES.AUGMENTATIONS": ["crop_flip"], "INPUT.IMAGES.UNREADABLE": "skip"}
    trainer = started({**images, **START, **weights, **augmented}, tmp_path / "run")
    model = trainer.model
    assert model.training
    with zipfile.ZipFile(tmp_path / "images.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.startswith("train/"))
        pixels = [np.array(Image.open(archive.open(name))) for name in names]
    labels = torch.tensor([CLASSES.index(name.split("/")[1]) for name in names])
    with torch.no_grad():
        features = model.eval().features(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
    expected = by_hand(features, labels)
    torch.testing.assert_close(classifier_of(trainer), expected, rtol=1e-3, atol=1e-4)
    assert expected[0].abs().max() > 0.01


def test_a_resumed_run_goes_on_from_its_own_classifier(features: dict, tmp_path: Path) -> None:
    first = started(features, tmp_path / "whole")
    start = classifier_of(first)
    first.train()
    trained = classifier_of(first)
    assert not torch.equal(start[0], trained[0])
    longer = {**features, "SOLVER.MAX_ITER": 4}
    resumed = started(longer, tmp_path / "whole", "--resume")
    assert torch.equal(classifier_of(resumed)[0], trained[0])


def test_a_plan_computes_no_features_of_all_images(
    features: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier_start, "start_as_discriminant", pytest.fail)
    settings = words({**SMALL, **features, "OUTPUT_DIR": str(tmp_path)})
    base = ["--config-file", "classification/base.yaml", "--num-gpus", "0", "--dry-run"]
    run_command("train", [*base, *settings])


def start_on_rank(rank: int, settings: dict, folder: str) -> None:
    with gloo_rank(rank, folder):
        _create_local_group(2)
        torch.save(classifier_of(started(settings, Path(folder) / "two")), f"{folder}/{rank}.pth")


@pytest.mark.slow
def test_two_processes_start_as_one(features: dict, tmp_path: Path) -> None:
    settings = {**features, "TEST.IMAGES_PER_BATCH": 3}
    one = classifier_of(started(settings, tmp_path / "one"))
    torch.multiprocessing.spawn(start_on_rank, (settings, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{r}.pth", weights_only=False) for r in range(2))
    for whole, *ranks in zip(one, first, second, strict=True):
        torch.testing.assert_close(ranks[0], whole)
        assert torch.equal(*ranks)
