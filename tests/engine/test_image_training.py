"""Image classifiers train, resume, evaluate and go through a second stage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from detectron2.data import MetadataCatalog
from image_runs import build_image_trainer, run_image_evaluation, run_image_training
from image_sets import write_folders, write_image_sets
from runs import assert_same_tensors, read_checkpoint

from balms_seg.data import register_images

EVERYTHING = {
    "INPUT.IMAGES.AUGMENTATIONS": ["crop_flip", "autoaugment", "cutout"],
    "INPUT.IMAGES.MIXUP": 0.4,
    "INPUT.IMAGES.CUTMIX": 1.0,
    "SOLVER.EMA_DECAY": 0.9,
    "SOLVER.AMP.ENABLED": True,
    "MODEL.IMAGE_CLASSIFIER.METHOD": "balanced_softmax",
}
WORKERS = {
    "INPUT.IMAGES.IN_MEMORY": False,
    "INPUT.IMAGES.AUGMENTATIONS": ["crop_flip", "color_jitter"],
    "DATALOADER.NUM_WORKERS": 1,
}
SUBSET = {"rho": 100, "kind": "exponential", "seed": 0}
DECOUPLED = {"MODEL.TRAIN_ONLY": ["classifier"], "MODEL.INIT_CLASSIFIER": "reset"}

slow = pytest.mark.slow


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return write_image_sets(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def stage_one(images: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("stage_one")
    run_image_training({**images, "DATASETS.TEST": ()}, output)
    return str(output / "model_final.pth")


def test_a_run_leaves_a_checkpoint_and_results(
    images: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for entry in images["DATASETS.REGISTER_IMAGES"]:
        register_images(*entry)
    metadata = MetadataCatalog.get(images["DATASETS.TRAIN"][0])
    monkeypatch.setitem(vars(metadata), "subset", SUBSET)  # as the names of CIFAR-LT have
    trainer = run_image_training(images, tmp_path)
    assert trainer.iter == 2
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["training_subsets"] == {images["DATASETS.TRAIN"][0]: SUBSET}
    assert results["metrics"][images["DATASETS.TEST"][0]]["classification"].keys() >= {"top1"}
    assert (tmp_path / "inference" / "per_class_classification.csv").is_file()


def test_evaluation_alone_gives_the_numbers_of_the_run(
    images: dict[str, object], tmp_path: Path
) -> None:
    trainer = run_image_training({**images, **EVERYTHING}, tmp_path)
    weights = {"MODEL.WEIGHTS": str(tmp_path / "model_final.pth")}
    again = run_image_evaluation({**images, **EVERYTHING, **weights}, tmp_path / "again")
    assert again == trainer._last_eval_results  # of the averaged weights, both


@pytest.mark.parametrize(
    "more",
    [
        {},
        pytest.param(EVERYTHING, marks=slow),
        pytest.param({**EVERYTHING, **WORKERS}, marks=slow),
        pytest.param({"META.LEARN": "weights", **DECOUPLED}, marks=slow),
    ],
    ids=["plain", "everything", "workers", "meta"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    more: dict, images: dict[str, object], stage_one: str, tmp_path: Path
) -> None:
    settings = {**images, "DATASETS.TEST": (), "SOLVER.MAX_ITER": 6, **more}
    settings["SOLVER.CHECKPOINT_PERIOD"] = 3
    if "MODEL.TRAIN_ONLY" in more:
        settings["MODEL.WEIGHTS"] = stage_one
    run_image_training(settings, tmp_path / "whole")
    (tmp_path / "resumed").mkdir()
    for name in ("model_0000002.pth",):
        (tmp_path / "resumed" / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    (tmp_path / "resumed" / "last_checkpoint").write_text("model_0000002.pth")
    # The checkpoint's seed holds, whatever the configuration says.
    run_image_training({**settings, "SEED": 99}, tmp_path / "resumed", "--resume")
    whole, resumed = (
        read_checkpoint(tmp_path / part / "model_final.pth") for part in ("whole", "resumed")
    )
    assert_same_tensors(whole["model"], resumed["model"])
    if "SOLVER.EMA_DECAY" in more:
        assert_same_tensors(whole["weight_average"]["model"], resumed["weight_average"]["model"])


@pytest.mark.parametrize("method", ["softmax", pytest.param("feature_balanced", marks=slow)])
def test_the_classifier_alone_is_that_of_the_whole_model(
    method: str,
    images: dict[str, object],
    stage_one: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {
        **images,
        **DECOUPLED,
        "DATASETS.TEST": (),
        "MODEL.WEIGHTS": stage_one,
        "SOLVER.MAX_ITER": 4,
        "MODEL.IMAGE_CLASSIFIER.METHOD": method,
        "MODEL.METHODS.FEATURE_BALANCED.RAMP": 0.9,
    }
    alone = run_image_training(settings, tmp_path / "alone").model.state_dict()
    monkeypatch.setattr("balms_seg.engine.trainer.find_classifier_view", lambda model: None)
    whole = run_image_training(settings, tmp_path / "whole").model.state_dict()
    before = torch.load(stage_one, weights_only=False)["model"]
    for name, value in alone.items():
        assert torch.allclose(value, whole[name], atol=1e-6), name
        assert torch.equal(value, before[name]) == (not name.startswith("classifier.")), name


@slow
def test_frozen_norms_can_follow_the_batches(
    images: dict[str, object], stage_one: str, tmp_path: Path
) -> None:
    settings = {**images, **DECOUPLED, "DATASETS.TEST": (), "MODEL.WEIGHTS": stage_one}
    settings["MODEL.FROZEN_NORM"] = "train"
    trained = run_image_training(settings, tmp_path).model.state_dict()
    before = torch.load(stage_one, weights_only=False)["model"]
    name = "backbone.stem_norm.running_mean"
    assert not torch.equal(trained[name], before[name])
    assert torch.equal(trained["backbone.stem.weight"], before["backbone.stem.weight"])


@slow
def test_a_learned_scale_multiplies_a_fixed_classifier(
    images: dict[str, object], stage_one: str, tmp_path: Path
) -> None:
    settings = {
        **images,
        "DATASETS.TEST": (),
        "MODEL.WEIGHTS": stage_one,
        "MODEL.INIT_CLASSIFIER": "lws",
        "MODEL.TRAIN_ONLY": ["classifier.scale"],
    }
    trained = run_image_training(settings, tmp_path).model.state_dict()
    before = torch.load(stage_one, weights_only=False)["model"]
    assert torch.equal(trained["classifier.weight"], before["classifier.weight"])
    assert not torch.equal(trained["classifier.scale"], torch.ones(3))


def test_the_average_is_evaluated_and_what_a_second_stage_starts_from(
    images: dict[str, object], tmp_path: Path
) -> None:
    settings = {**images, "DATASETS.TEST": (), "SOLVER.EMA_DECAY": 0.5}
    run_image_training(settings, tmp_path / "one")
    content = read_checkpoint(tmp_path / "one" / "model_final.pth")
    average, raw = content["model"], content["raw_model"]
    assert not torch.equal(average["classifier.weight"], raw["classifier.weight"])
    second = {**settings, **DECOUPLED, "MODEL.WEIGHTS": str(tmp_path / "one" / "model_final.pth")}
    trainer = build_image_trainer(second, tmp_path / "two")
    trainer.resume_or_load(resume=False)
    state = trainer.model.state_dict()
    assert torch.equal(state["backbone.stem.weight"], average["backbone.stem.weight"])


@slow
def test_images_that_workers_decode_train_as_well(
    images: dict[str, object], tmp_path: Path
) -> None:
    write_folders(tmp_path / "large", (4, 3, 2), size=20)
    entry = [f"{tmp_path.name}_large", str(tmp_path / "large"), ""]
    settings = {
        **WORKERS,
        "DATALOADER.NUM_WORKERS": 0,
        "DATASETS.REGISTER_IMAGES": [entry],
        "DATASETS.TRAIN": (entry[0],),
        "DATASETS.TEST": (entry[0],),
    }
    results = run_image_training(settings, tmp_path / "run")._last_eval_results
    assert 0 <= results["classification"]["top1"] <= 100
