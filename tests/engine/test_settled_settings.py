"""What a configuration leaves to the data is filled in before the start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from image_runs import build_image_trainer, run_image_evaluation, run_image_training
from image_sets import CLASSES, picture, write_folders
from runs import build_trainer

from balms_seg.class_statistics.frequency_groups import group_by_bounds, third_bounds
from balms_seg.class_statistics.repeat_threshold import threshold_that_repeats
from balms_seg.data import load_dataset_dicts
from balms_seg.data.preflight.data_checks import PreflightError
from balms_seg.sampling import SAMPLER_REGISTRY

COUNTS = (12, 6, 2)
LEFT_TO_THE_DATA = {
    "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES": 0,
    "SOLVER.EPOCHS": 3,
    "SOLVER.WARMUP_SHARE": 0.2,
    "TEST.FIT_GROUP_BOUNDS": True,
}


def register(tmp_path: Path, train: Path, test: Path) -> dict[str, object]:
    names = [f"{tmp_path.name}_{part}" for part in ("train", "test")]
    sets = [[name, str(source), ""] for name, source in zip(names, (train, test), strict=True)]
    return {
        "DATASETS.REGISTER_IMAGES": sets,
        "DATASETS.TRAIN": (names[0],),
        "DATASETS.TEST": (names[1],),
    }


@pytest.fixture
def sets(tmp_path: Path) -> dict[str, object]:
    write_folders(tmp_path / "train", COUNTS)
    write_folders(tmp_path / "test", (2, 2, 2))
    return register(tmp_path, tmp_path / "train", tmp_path / "test")


def test_epochs_classes_and_groups_follow_from_the_set(
    sets: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    get = DatasetCatalog.get
    monkeypatch.setattr(DatasetCatalog, "get", lambda name: [read.append(name), get(name)][1])
    cfg = build_image_trainer({**sets, **LEFT_TO_THE_DATA}, tmp_path / "run").cfg
    assert cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES == 3
    assert cfg.SOLVER.MAX_ITER == 3 * 20 / 4
    assert cfg.SOLVER.WARMUP_ITERS == 3
    assert cfg.TEST.LONG_TAILED.GROUP_BOUNDS == [2, 6]
    assert read.count(cfg.DATASETS.TRAIN[0]) == 1  # for the settings and for the run


def test_a_run_goes_on_with_what_it_left_to_the_data(tmp_path: Path) -> None:
    labels = np.arange(9) % 3
    np.savez(tmp_path / "made_up.npz", features=np.eye(9, 5), labels=labels, class_names=CLASSES)
    settings = {
        "DATASETS.REGISTER_IMAGES": [["resumed_features", str(tmp_path / "made_up.npz"), ""]],
        "DATASETS.TRAIN": ("resumed_features",),
        "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES": 0,
        "MODEL.IMAGE_CLASSIFIER.BACKBONE": "features",
        "INPUT.IMAGES.AUGMENTATIONS": [],
    }
    run_image_training(settings, tmp_path / "run")
    longer = {**settings, "SOLVER.MAX_ITER": 4}
    resumed = run_image_training(longer, tmp_path / "run", "--resume")
    assert resumed.start_iter == 2
    assert resumed.model.classifier.weight.shape == (3, 5)


def test_a_checkpoints_classes_are_those_of_its_evaluation(
    sets: dict[str, object], tmp_path: Path
) -> None:
    settings = {**sets, "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES": 0}
    trained = run_image_training(settings, tmp_path / "run")._last_eval_results
    weights = {"MODEL.WEIGHTS": str(tmp_path / "run" / "model_final.pth")}
    # The training set is gone, and the test set, now with a class less, would start at another.
    write_folders(tmp_path / "fewer", (2, 2, 2))
    for image in (tmp_path / "fewer" / CLASSES[0]).iterdir():
        image.unlink()
    (tmp_path / "fewer" / CLASSES[0]).rmdir()
    alone = register(tmp_path / "alone", tmp_path / "gone", tmp_path / "fewer")
    found = run_image_evaluation(
        {**settings, **alone, **weights, "DATASETS.TRAIN": ()}, tmp_path / "evaluated"
    )
    right = 6 * trained["classification"]["top1"] / 100
    rows = (tmp_path / "run" / "inference" / "per_class_classification.csv").read_text()
    of_first = float(rows.splitlines()[1].split(",")[6]) / 100 * 2
    assert found["classification"]["top1"] == pytest.approx(100 * (right - of_first) / 4)
    lines = (tmp_path / "evaluated" / "inference" / "per_class_classification.csv").read_text()
    assert [line.split(",")[1] for line in lines.splitlines()[1:]] == list(CLASSES)
    assert lines.splitlines()[1].split(",")[6] == "n/a"


def test_classes_that_are_not_the_checkpoints_are_refused(
    sets: dict[str, object], tmp_path: Path
) -> None:
    run_image_training({**sets, "DATASETS.TEST": ()}, tmp_path / "run")
    weights = {"MODEL.WEIGHTS": str(tmp_path / "run" / "model_final.pth")}
    other = {"DATASETS.CLASSES": list(CLASSES[::-1])}
    with pytest.raises(ValueError, match="but the checkpoint was trained on"):
        run_image_evaluation({**sets, **weights, **other}, tmp_path / "evaluated")


def test_what_is_wrong_with_the_data_is_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folders(tmp_path / "train", COUNTS)
    (tmp_path / "test" / "zebra").mkdir(parents=True)
    picture(0, 0).save(tmp_path / "test" / "zebra" / "1.png")
    monkeypatch.setattr("balms_seg.engine.trainer.LongTailedTrainer.build_model", None)
    settings = register(tmp_path, tmp_path / "train", tmp_path / "test")
    with pytest.raises(PreflightError, match="does not know: zebra; it lacks ape, bee, cat"):
        build_image_trainer({**settings, **LEFT_TO_THE_DATA}, tmp_path / "run")


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], [3, 3, 3]),
        ([50, 3, 3, 3, 20, 500, 1], [4, 1, 2]),
        ([10, 10, 20, 30], [2, 1, 1]),
    ],
)
def test_bounds_that_fit_leave_no_group_empty(counts: list[int], sizes: list[int]) -> None:
    bounds = third_bounds(np.array(counts))
    groups = group_by_bounds(np.array(counts), bounds)
    assert np.bincount(groups, minlength=3).tolist() == sizes
    assert max(c for c, g in zip(counts, groups, strict=True) if g == 0) == bounds[0]


def test_classes_without_an_image_have_no_say_in_the_bounds() -> None:
    """A bound of 0 is refused by whoever takes bounds."""
    assert third_bounds(np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3])) == (1, 2)


@pytest.mark.parametrize("counts", [[5, 5, 5], [1, 1, 9], [3, 4], [0, 1, 2], [0, 0]])
def test_counts_without_three_groups_have_no_bounds(counts: list[int]) -> None:
    assert third_bounds(np.array(counts)) is None


def test_several_training_sets_agree_by_name(tmp_path: Path) -> None:
    write_folders(tmp_path / "train", COUNTS)
    lines = [
        f"train/{CLASSES[2]}/000.png\t{CLASSES[2]}",
        f"train/{CLASSES[0]}/001.png\t{CLASSES[0]}",
    ]
    (tmp_path / "more.txt").write_text("\n".join(lines))
    settings = register(tmp_path, tmp_path / "train", tmp_path / "more.txt")
    names = (*settings["DATASETS.TRAIN"], *settings["DATASETS.TEST"])
    both = {**settings, **LEFT_TO_THE_DATA, "DATASETS.TRAIN": names, "DATASETS.TEST": ()}
    trainer = build_image_trainer(both, tmp_path / "run")
    counts = trainer.checkpointer.record["classes"]["image_counts"]
    assert counts == [COUNTS[0] + 1, COUNTS[1], COUNTS[2] + 1]
    (tmp_path / "more.txt").write_text(f"train/{CLASSES[0]}/001.png\tzebra")
    other = register(tmp_path / "other", tmp_path / "train", tmp_path / "more.txt")
    names = (*other["DATASETS.TRAIN"], *other["DATASETS.TEST"])
    with pytest.raises(PreflightError, match="1 class that the model does not know: zebra"):
        build_image_trainer({**both, **other, "DATASETS.TRAIN": names}, tmp_path / "refused")


def test_a_second_stage_keeps_a_classifier_of_the_same_classes_only(
    sets: dict[str, object], tmp_path: Path
) -> None:
    settings = {**sets, "DATASETS.TEST": ()}
    run_image_training(settings, tmp_path / "one")
    second = {
        **settings,
        "MODEL.WEIGHTS": str(tmp_path / "one" / "model_final.pth"),
        "MODEL.TRAIN_ONLY": ["classifier"],
        "DATASETS.CLASSES": list(CLASSES[::-1]),
    }
    with pytest.raises(ValueError, match="another order, from class 0: 'ape' and 'cat'"):
        run_image_training(second, tmp_path / "kept")
    run_image_training({**second, "MODEL.INIT_CLASSIFIER": "reset"}, tmp_path / "reset")


@pytest.mark.parametrize(("in_memory", "num_workers"), [(True, 0), (False, 0), (False, 1)])
def test_an_image_that_breaks_names_the_key(
    in_memory: bool,
    num_workers: int,
    sets: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever decodes it, after a preflight that did not have it in its sample."""
    monkeypatch.setattr(
        "balms_seg.data.preflight.image_set_checks.image_problems", lambda *args, **more: ()
    )
    settings = {**sets, "DATALOADER.NUM_WORKERS": num_workers, "DATASETS.TEST": ()}
    settings["INPUT.IMAGES.IN_MEMORY"] = in_memory
    for path in (tmp_path / "train").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(OSError, match="INPUT.IMAGES.UNREADABLE to skip"):
        run_image_training(settings, tmp_path / "run")


def test_a_list_of_numbers_may_lack_the_last_class(tmp_path: Path) -> None:
    """It once passed preflight, and failed after the whole training."""
    write_folders(tmp_path / "images", COUNTS)
    every = [f"{name}/{i:03}.png {k}" for k, name in enumerate(CLASSES) for i in range(COUNTS[k])]
    (tmp_path / "train.txt").write_text("\n".join(every))
    (tmp_path / "test.txt").write_text("\n".join(every[: COUNTS[0] + 2]))
    settings = register(tmp_path, tmp_path / "train.txt", tmp_path / "test.txt")
    for entry in settings["DATASETS.REGISTER_IMAGES"]:
        entry[2] = str(tmp_path / "images")
    run_image_training(settings, tmp_path / "run")
    lines = (tmp_path / "run" / "inference" / "per_class_classification.csv").read_text()
    rows = [line.split(",") for line in lines.splitlines()[1:]]
    assert [(row[1], row[4]) for row in rows] == [("0", "12"), ("1", "2"), ("2", "0")]
    assert rows[2][6] == "n/a"


@pytest.mark.slow
def test_the_automatic_threshold_is_of_what_the_sampler_compares_it_with(
    data: dict, tmp_path: Path
) -> None:
    found = {}
    for name in ("RepeatFactorTrainingSampler", "InstanceAwareRepeatFactorTrainingSampler"):
        settings = {"DATALOADER.SAMPLER_TRAIN": name, "DATALOADER.REPEAT_THRESHOLD": -1.0}
        trainer = build_trainer({**data, **settings}, tmp_path / name)
        dicts = load_dataset_dicts(trainer.cfg.DATASETS.TRAIN[0])
        frequency = SAMPLER_REGISTRY.get(name).class_frequency(dicts, 3)
        found[name] = trainer.cfg.DATALOADER.REPEAT_THRESHOLD
        assert found[name] == threshold_that_repeats(frequency)
    assert len(set(found.values())) == 2
