"""Runs on plain COCO annotations: no LVIS fields, on one process, from the custom settings."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from made_up_data import write_annotated_images
from runs import Settings, build_trainer, run_training

from balms_seg.engine import LongTailedTrainer
from balms_seg.evaluation import read_results
from balms_seg.evaluation.output.per_class import read_per_class_json
from balms_seg.report.page import write_report
from balms_seg.report.run_files import read_run

TRAIN = ((0, 1), (0, 2), (0,), (0, 1), (0,), (0,))  # 6, 2 and 1 images
VAL = ((0, 1), (1, 2), (2,))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a plain COCO training and validation set."""
    folder = tmp_path_factory.mktemp("plain")
    entries = []
    for part, classes in (("train", TRAIN), ("val", VAL)):
        write_annotated_images(folder / part, classes, frequency=None)
        path = folder / f"{part}.json"
        content = json.loads(path.read_text())
        for image in content["images"]:
            del image["neg_category_ids"], image["not_exhaustive_category_ids"]
        path.write_text(json.dumps(content))
        entries.append([f"plain_{part}", str(path), str(folder / part)])
    return {
        "DATASETS.REGISTER": entries,
        "DATASETS.TRAIN": ("plain_train",),
        "DATASETS.TEST": ("plain_val",),
    }


def test_group_bounds_hold_from_the_start_to_the_report(plain: Settings, tmp_path: Path) -> None:
    run_training({**plain, "TEST.LONG_TAILED.GROUP_BOUNDS": [1, 3]}, tmp_path)
    rows = read_per_class_json(tmp_path / "inference" / "per_class_segm.json")
    columns = ("group", "train_image_count", "train_instance_count")
    found = [tuple(row[column] for column in columns) for row in rows]
    assert found == [("frequent", 6, 6), ("common", 2, 2), ("rare", 1, 1)]
    classes = torch.load(tmp_path / "model_final.pth", weights_only=False)["classes"]
    assert classes["groups"] == [row["group"] for row in rows]  # which predict and demo show
    (sizes,) = read_results(tmp_path / "results.json")["group_sizes"].values()
    assert [sizes[name]["classes"] for name in ("rare", "common", "frequent")] == [1, 1, 1]
    pytest.importorskip("vl_convert")
    write_report([read_run(tmp_path)], tmp_path / "page.html", num_resamples=0)
    assert 'data-figure="frequency-and-ap"' in (tmp_path / "page.html").read_text()


def test_a_set_without_frequent_classes_says_which_bounds_would_fit(
    plain: Settings, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    run_training(plain, tmp_path)
    assert "No class is common or frequent by these groups." in log.text
    assert 'TEST.LONG_TAILED.GROUP_BOUNDS "[1,2]"' in log.text


def test_the_automatic_repeat_threshold_is_settled_and_told(
    plain: Settings, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    cfg = build_trainer({**plain, "DATALOADER.REPEAT_THRESHOLD": "auto"}, tmp_path).cfg
    # One class of three is to repeat: the one that 1 of 6 images shows.
    assert 1 / 6 < cfg.DATALOADER.REPEAT_THRESHOLD < 2 / 6
    assert f"REPEAT_THRESHOLD is {cfg.DATALOADER.REPEAT_THRESHOLD:g}" in log.text


def test_a_warm_up_that_does_not_end_is_refused_and_leaves_no_folder(
    plain: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "refused"
    with pytest.raises(ValueError, match=r"SOLVER.WARMUP_ITERS is 2 and SOLVER.MAX_ITER 2"):
        build_trainer({**plain, "SOLVER.WARMUP_ITERS": 2}, folder)
    assert not folder.exists()


def test_a_trainer_built_in_code_settles_its_warm_up(plain: Settings, tmp_path: Path) -> None:
    cfg = build_trainer(plain, tmp_path / "first").cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = str(tmp_path / "second")
    cfg.SOLVER.WARMUP_ITERS = cfg.SOLVER.MAX_ITER
    with pytest.raises(ValueError, match="would end before its warm-up does"):
        LongTailedTrainer(cfg)
    cfg.SOLVER.WARMUP_SHARE = 0.5
    settled = LongTailedTrainer(cfg).cfg
    assert settled.SOLVER.WARMUP_ITERS == cfg.SOLVER.MAX_ITER // 2


def test_a_share_of_warm_up_follows_the_length_of_the_run(plain: Settings, tmp_path: Path) -> None:
    settings = {**plain, "SOLVER.MAX_ITER": 30, "SOLVER.WARMUP_SHARE": 0.1}
    assert build_trainer(settings, tmp_path / "share").cfg.SOLVER.WARMUP_ITERS == 3
    # What the command line says of the number holds over the share of the file, 0.2.
    del settings["SOLVER.WARMUP_SHARE"]
    trainer = build_trainer({**settings, "SOLVER.WARMUP_ITERS": 7}, tmp_path / "number")
    assert trainer.cfg.SOLVER.WARMUP_ITERS == 7


def test_a_rescaled_schedule_is_a_warning_with_the_old_and_new_numbers(
    plain: Settings, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    settings = {**plain, "SOLVER.REFERENCE_WORLD_SIZE": 2, "SOLVER.MAX_ITER": 720_000}
    trainer = build_trainer(settings, tmp_path)
    assert trainer.max_iter == 1_440_000
    (warning,) = [r for r in log.records if "schedule is rescaled" in r.getMessage()]
    assert warning.levelno == logging.WARNING
    assert "IMS_PER_BATCH 2 -> 1" in warning.getMessage()
    assert "MAX_ITER 720000 -> 1440000" in warning.getMessage()
