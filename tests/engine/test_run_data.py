"""A run reads each data set once, counts once, and hands everybody the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog
from detectron2.engine import DefaultTrainer
from image_runs import build_image_trainer
from image_sets import CLASSES, write_folders, write_image_sets
from image_sets import SMALL as SMALL_IMAGES
from made_up_data import SMALL, words
from meta_runs import RATES, WEIGHTS
from runs import arguments, build_trainer, run_evaluation, run_training

from balms_seg import ClassStatistics
from balms_seg.annotations import reader
from balms_seg.commands.command_line import run_command
from balms_seg.data import register_from_config
from balms_seg.engine import LongTailedTrainer, load_config, train
from balms_seg.evaluation.lvis import ground_truth
from balms_seg.model_zoo import get_config_file

CASCADE = {"MODEL.ROI_HEADS.NAME": "CascadeLongTailedROIHeads"}
JSONS = {"train.json": 1, "val.json": 1}
CASCADE |= {"MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True}


def forget_files() -> None:
    """As in a new process."""
    reader._read.cache_clear()
    ground_truth.build_ground_truth.cache_clear()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each json was read, each set made dicts, ground truth, and counted ("count")."""
    calls: Counter[str] = Counter()
    read, count = DatasetCatalog.get, ClassStatistics.from_dataset_dicts
    forget_files()

    def counting(name: Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            calls[name(*args)] += 1
            return function(*args, **options)

        return called

    monkeypatch.setattr(DatasetCatalog, "get", counting(lambda name: name, read))
    monkeypatch.setattr(reader, "_build", counting(lambda path: path.name, reader._build))
    rules = counting(lambda *_, **__: "truth", ground_truth.federated_rules)
    monkeypatch.setattr(ground_truth, "federated_rules", rules)
    monkeypatch.setattr(ClassStatistics, "from_dataset_dicts", counting(lambda *_: "count", count))
    return calls


@pytest.mark.parametrize("more", [{}, CASCADE], ids=["standard", "cascade"])
def test_training_reads_each_set_once_and_counts_once(
    more: dict[str, object], data: dict[str, object], tmp_path: Path, counted: Counter[str]
) -> None:
    settings = {**data, **more, "TEST.EVAL_PERIOD": 1}  # evaluated twice
    run_training(settings, tmp_path)
    (train_set,), (val_set,) = data["DATASETS.TRAIN"], data["DATASETS.TEST"]
    assert counted == {**JSONS, train_set: 1, val_set: 1, "truth": 1, "count": 1}


@pytest.mark.parametrize("learned", [WEIGHTS, RATES], ids=["weights", "rates"])
def test_a_meta_step_reads_and_counts_nothing_more(
    learned: dict[str, object], data: dict[str, object], tmp_path: Path, counted: Counter[str]
) -> None:
    build_trainer({**data, **learned}, tmp_path)
    assert counted == {"train.json": 1, data["DATASETS.TRAIN"][0]: 1, "count": 1}


def test_a_script_of_ones_own_reads_no_more(
    data: dict[str, object], tmp_path: Path, counted: Counter[str]
) -> None:
    settings = {**SMALL, **data, "OUTPUT_DIR": str(tmp_path), "SEED": 1, "MODEL.DEVICE": "cpu"}
    cfg = load_config(get_config_file("toy/base.yaml"), words(settings))
    register_from_config(cfg)
    train(LongTailedTrainer(cfg))
    (train_set,), (val_set,) = data["DATASETS.TRAIN"], data["DATASETS.TEST"]
    assert counted == {**JSONS, train_set: 1, val_set: 1, "truth": 1, "count": 1}


def test_evaluation_alone_reads_each_set_once(
    data: dict[str, object], tmp_path: Path, counted: Counter[str]
) -> None:
    run_training(data, tmp_path)
    forget_files()
    counted.clear()
    augmented = {"TEST.AUG.ENABLED": True, "TEST.AUG.MIN_SIZES": (64,), "TEST.AUG.FLIP": False}
    weights = {"MODEL.WEIGHTS": str(tmp_path / "model_final.pth")}
    results = run_evaluation({**data, **augmented, **weights}, tmp_path / "again")
    assert set(results) == {"bbox", "segm", "bbox_TTA", "segm_TTA"}
    (train_set,), (val_set,) = data["DATASETS.TRAIN"], data["DATASETS.TEST"]
    assert counted == {**JSONS, train_set: 1, val_set: 1, "truth": 1, "count": 1}


def test_whole_images_are_listed_once(tmp_path: Path, counted: Counter[str]) -> None:
    sets = write_image_sets(tmp_path)
    build_image_trainer(sets, tmp_path / "out")
    names = (*sets["DATASETS.TRAIN"], *sets["DATASETS.TEST"])
    assert counted == {**dict.fromkeys(names, 1), "count": 1}


def test_what_is_left_to_the_data_reads_and_counts_no_more(
    tmp_path: Path, counted: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Training and evaluation alone, as the command does them, of a set with a broken image."""
    write_folders(tmp_path / "train", (6, 4, 2))
    write_folders(tmp_path / "test", (2, 2, 2))
    (tmp_path / "train" / CLASSES[0] / "000.png").write_bytes(b"broken")
    names = [f"{tmp_path.name}_{part}" for part in ("train", "test")]
    settings = {
        **SMALL_IMAGES,
        "DATASETS.REGISTER_IMAGES": [
            [name, str(tmp_path / part), ""]
            for name, part in zip(names, ("train", "test"), strict=True)
        ],
        "DATASETS.TRAIN": (names[0],),
        "DATASETS.TEST": (names[1],),
        "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES": 0,
        "SOLVER.EPOCHS": 1,
        "TEST.FIT_GROUP_BOUNDS": True,
        "INPUT.IMAGES.UNREADABLE": "skip",
    }
    config = ["--config-file", get_config_file("classification/base.yaml"), "--num-gpus", "0"]
    run_command("train", [*config, *words({**settings, "OUTPUT_DIR": str(tmp_path / "run")})])
    assert counted == {**dict.fromkeys(names, 1), "count": 1}
    counted.clear()
    again = {
        "OUTPUT_DIR": str(tmp_path / "again"),
        "MODEL.WEIGHTS": str(tmp_path / "run" / "model_final.pth"),
    }
    run_command("train", ["--eval-only", *config, *words({**settings, **again})])
    assert counted == {**dict.fromkeys(names, 1), "count": 1}
    assert caplog.text.count("neither trained on nor counted") == 1


def test_overridden_hooks_with_detectron2s_parameters_are_called_as_there(
    data: dict[str, object], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    asked = []

    class Own(LongTailedTrainer):
        @classmethod
        def build_evaluator(cls, cfg: Any, dataset_name: str, output_folder: str = "") -> Any:
            asked.append((dataset_name, output_folder))
            return super().build_evaluator(cfg, dataset_name)

        @classmethod
        def build_train_loader(cls, cfg: Any) -> Any:
            asked.append("train loader")
            return super().build_train_loader(cfg)

    from balms_seg.engine import setup

    train(Own(setup(arguments(data, tmp_path))))
    assert asked == ["train loader", (data["DATASETS.TEST"][0], "")]
    assert "balms-seg train read SOLVER.OPTIMIZER" not in log.text  # not its default, and read
    assert issubclass(Own, DefaultTrainer)
