"""Classifiers on features that were computed once: the same runs as on images, without a trunk."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from image_runs import build_image_trainer, run_image_evaluation, run_image_training
from image_sets import CLASSES, NUM_CLASSES, SMALL, TEST_COUNTS, TRAIN_COUNTS, write_image_sets
from made_up_data import words

from balms_seg.commands.command_line import run_command
from balms_seg.data.preflight.data_checks import PreflightError
from balms_seg.engine import ImagePredictor
from balms_seg.evaluation import read_results
from balms_seg.model_zoo import get_config_file

IMAGES = {
    "INPUT.IMAGES.AUGMENTATIONS": [],
    "MODEL.IMAGE_CLASSIFIER.METHOD": "balanced_softmax",
    "MODEL.TRAIN_ONLY": ["classifier"],
    "MODEL.INIT_CLASSIFIER": "reset",
    "SOLVER.MAX_ITER": 6,
}
FEATURES = {**IMAGES, "MODEL.IMAGE_CLASSIFIER.BACKBONE": "features"}
BALMS = {
    "DATALOADER.SAMPLER_TRAIN": "MetaRepeatFactorTrainingSampler",
    "META.SOURCE": "loader",
    "META.LR": 0.1,
    "META.BLOCK": 4,
    "META.LOOKAHEAD": 0,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return write_image_sets(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def trunk(images: dict, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checkpoint of a feature stage."""
    folder = tmp_path_factory.mktemp("trunk")
    run_image_training({**images, "DATASETS.TEST": ()}, folder)
    return str(folder / "model_final.pth")


def compute(images: dict, output: Path, *more: str) -> list[str]:
    base = get_config_file("classification/base.yaml")
    settings = words({**SMALL, **images, "OUTPUT_DIR": str(output)})
    command = ["--config-file", base, "--output", str(output), "--num-gpus", "0"]
    return [*command, *settings, *more]


@pytest.fixture(scope="module")
def features(
    images: dict, trunk: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, object]:
    """Settings that register and use the features of the images."""
    output = tmp_path_factory.mktemp("features")
    run_command("features", compute(images, output, "MODEL.WEIGHTS", trunk))
    names = [images["DATASETS.TRAIN"][0], images["DATASETS.TEST"][0]]
    return {
        "DATASETS.REGISTER_IMAGES": [[f"{n}_features", f"{output}/{n}.npz", ""] for n in names],
        "DATASETS.TRAIN": (f"{names[0]}_features",),
        "DATASETS.TEST": (f"{names[1]}_features",),
    }


@pytest.mark.parametrize(
    "more", [{}, pytest.param(BALMS, marks=pytest.mark.slow)], ids=["plain", "balms"]
)
def test_a_classifier_on_features_is_that_on_images_of_a_frozen_trunk(
    more: dict, images: dict, features: dict, trunk: str, tmp_path: Path
) -> None:
    settings = {**images, **IMAGES, **more, "MODEL.WEIGHTS": trunk}
    on_images = run_image_training(settings, tmp_path / "images")
    on_features = run_image_training({**features, **FEATURES, **more}, tmp_path / "features")
    for name in ("weight", "bias"):
        left, right = (getattr(run.model.classifier, name) for run in (on_images, on_features))
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)
    assert on_features.model.classifier.weight.abs().max() > 0.02
    found = [
        next(iter(read_results(tmp_path / name / "results.json")["metrics"].values()))
        for name in ("images", "features")
    ]
    assert found[0]["classification"] == pytest.approx(found[1]["classification"], nan_ok=True)


def test_a_model_with_its_backbone_takes_features_and_then_predicts_images(
    images: dict, features: dict, trunk: str, tmp_path: Path
) -> None:
    settings = {**features, **IMAGES, "MODEL.WEIGHTS": trunk}
    run_image_training(settings, tmp_path)
    weights = {"MODEL.WEIGHTS": str(tmp_path / "model_final.pth")}
    results = [
        run_image_evaluation({**IMAGES, **sets, **weights}, tmp_path / name)["classification"]
        for name, sets in (("i", images), ("f", features))
    ]
    assert results[0] == pytest.approx(results[1], nan_ok=True)
    predictor = ImagePredictor.from_checkpoint(tmp_path, device="cpu")
    (guess,) = predictor([np.zeros((8, 8, 3), np.uint8)])
    assert set(guess.names) == set(CLASSES)


def test_features_are_computed_once_a_trunk_and_a_way_of_reading(
    images: dict, trunk: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = compute(images, tmp_path, "MODEL.WEIGHTS", trunk)
    run_command("features", command)
    first = capsys.readouterr().out
    assert first.count(": computed") == 2
    entries = json.loads(re.search(r'REGISTER_IMAGES "(.*)"', first)[1].replace("'", '"'))
    for (_, path, root), counts in zip(entries, (TRAIN_COUNTS, TEST_COUNTS), strict=True):
        content = np.load(path)
        assert root == ""
        assert content["features"].shape == (sum(counts), 64)
        assert tuple(np.bincount(content["labels"])) == counts
        assert tuple(content["class_names"]) == CLASSES
    before = Path(entries[0][1]).stat().st_mtime_ns
    run_command("features", command)
    assert capsys.readouterr().out.count(": as it was") == 2
    assert Path(entries[0][1]).stat().st_mtime_ns == before
    run_command("features", [*command, "MODEL.PIXEL_MEAN", "[0.0, 0.0, 0.0]"])
    assert capsys.readouterr().out.count(": computed") == 2


def test_a_trunk_without_trained_weights_is_refused(
    images: dict, trunk: str, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"random initialisation; set MODEL\.WEIGHTS"):
        run_command("features", compute(images, tmp_path))
    part = torch.load(trunk, weights_only=True)["model"]
    del part["backbone.stem.weight"]
    torch.save({"model": part}, tmp_path / "part.pth")
    with pytest.raises(SystemExit, match=r"lacks 1 parameter .*example backbone\.stem\.weight"):
        run_command("features", compute(images, tmp_path, "MODEL.WEIGHTS", f"{tmp_path}/part.pth"))


def test_what_features_cannot_have_is_refused_before_the_start(
    images: dict, features: dict, tmp_path: Path
) -> None:
    augmented = {**features, **FEATURES, "INPUT.IMAGES.AUGMENTATIONS": ["crop_flip"]}
    with pytest.raises(PreflightError, match=r"set\s+it to \[\]"):
        build_image_trainer(augmented, tmp_path / "a")
    mixed = {**features, **FEATURES, "MODEL.TRAIN_ONLY": [], "INPUT.IMAGES.MIXUP": 0.2}
    with pytest.raises(ValueError, match="MIXUP is 0.2"):
        build_image_trainer(mixed, tmp_path / "b")
    with pytest.raises(ValueError, match="no set of features is at hand"):
        build_image_trainer({**images, **FEATURES}, tmp_path / "c")
    other = {**features, **FEATURES, "MODEL.IMAGE_CLASSIFIER.NUM_FEATURES": 5}
    with pytest.raises(ValueError, match="Expected 5 features an image, but got 64"):
        run_image_training(other, tmp_path / "d")


def test_a_model_without_a_backbone_says_that_it_needs_features(
    features: dict, tmp_path: Path
) -> None:
    run_image_training({**features, **FEATURES, "DATASETS.TEST": ()}, tmp_path)
    predictor = ImagePredictor.from_checkpoint(tmp_path, device="cpu")
    assert predictor.model.classifier.weight.shape == (NUM_CLASSES, 64)
    with pytest.raises(ValueError, match="BACKBONE is features, but images"):
        next(predictor([np.zeros((8, 8, 3), np.uint8)]))
