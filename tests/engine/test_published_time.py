"""A dry run's hours are those of docs/training_cost.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from balms_seg.engine import load_config
from balms_seg.engine.published_time import describe_published_time

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training_cost.md"
MODELS = {"Mask R-CNN R-50-FPN": "R_50", "R-101-FPN": "R_101", "X-101-32x8d-FPN": "X_101_32x8d"}


@pytest.mark.parametrize("model", MODELS)
def test_the_hours_are_those_of_the_page(model: str) -> None:
    row = re.search(rf"^\| {model} \| ([\d.]+) \|.*?\| (\d+) h \|", PAGE.read_text(), re.MULTILINE)
    assert row
    cfg = load_config(f"lvis_v1/softmax_mask_rcnn_{MODELS[model]}_FPN_1x.yaml")
    told = describe_published_time(cfg, num_images=2, num_iters=cfg.SOLVER.MAX_ITER)
    assert told.startswith(f"about {row[2]} hours at {row[1]} s an iteration")
    assert "not measured here" in told


def test_the_hours_of_the_paper_s_stages_are_those_of_the_page() -> None:
    page = PAGE.read_text()
    for name, stage in {
        "feature_sigmoid_mask_rcnn_R_50_FPN_1x": "features, 90,000 iterations",
        "classifier_balanced_sigmoid_mask_rcnn_R_50_FPN": "control, 22,000",
        "balms_reweighter_mask_rcnn_R_50_FPN": "BALMS with the loader, 22,000",
    }.items():
        row = re.search(rf"^\| {stage} \|.*$", page, re.MULTILINE)
        assert row
        cfg = load_config(f"lvis_v0.5/paper_{name}.yaml")
        hours = re.findall(r"([\d.]+) h ", row[0])
        for times, expected in zip((1, 2, 4, 8), hours, strict=True):
            num_iters = times * cfg.SOLVER.MAX_ITER
            told = describe_published_time(cfg, num_images=1, num_iters=num_iters)
            assert told.startswith(f"at most {expected} hours")
            assert ("times 2 for the meta step" in told) == ("BALMS" in stage)
    cfg.META.SOURCE = "feature_bank"
    assert "at most 2.0 hours" in describe_published_time(cfg, num_images=2, num_iters=22000)


@pytest.mark.parametrize(("period", "said"), [(40000, "at most 3.2 hours from"), (90000, "")])
def test_the_hours_between_two_checkpoints_are_told_where_there_are_two(
    period: int, said: str
) -> None:
    name = "lvis_v0.5/paper_feature_sigmoid_mask_rcnn_R_50_FPN_1x.yaml"
    cfg = load_config(name, ["SOLVER.CHECKPOINT_PERIOD", str(period)])
    told = describe_published_time(cfg, num_images=1, num_iters=90000)  # of 0.292 s
    assert ("from one checkpoint" in told) == bool(said)
    assert said in told


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (["MODEL.ROI_HEADS.NUM_CLASSES", "20"], "20 classes"),
        (["INPUT.MIN_SIZE_TRAIN", "(480, 600)"], "images 600 px high"),
        (["SOLVER.AMP.ENABLED", "True"], "mixed precision"),
    ],
)
def test_what_is_not_as_published_has_a_reason_instead(setting: list[str], reason: str) -> None:
    name = "lvis_v0.5/paper_feature_sigmoid_mask_rcnn_R_50_FPN_1x.yaml"
    cfg = load_config(name)
    assert "on LVIS v0.5" in describe_published_time(cfg, num_images=2, num_iters=1)
    cfg = load_config(name, setting)
    told = describe_published_time(cfg, num_images=2, num_iters=1)
    assert told.startswith(f"not published for {reason}: docs/training_cost.md")


def test_larger_batches_take_longer_and_other_models_have_a_reason_instead() -> None:
    cfg = load_config("custom/mask_rcnn_R_50_FPN.yaml", ["MODEL.ROI_HEADS.NUM_CLASSES", "80"])
    told = describe_published_time(cfg, num_images=2, num_iters=20000)
    assert told.startswith("about 1.4 hours at 0.261 s an iteration of two images")
    assert "on COCO and V100 GPUs" in told
    told = describe_published_time(cfg, num_images=4, num_iters=10000)
    assert told.startswith("about 1.4 hours at 0.261 s an iteration of two images")
    assert ", taken 2 times as long for 4" in told
    cfg = load_config("lvis_v0.5/softmax_cascade_mask_rcnn_R_50_FPN_1x.yaml")
    told = describe_published_time(cfg, num_images=4, num_iters=1)
    assert told.startswith("not published for this model: docs")
