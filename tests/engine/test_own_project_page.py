"""The script of docs/own_project.md runs as it stands, on a small model and made-up data."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from made_up_data import TRAIN_CLASSES, VAL_CLASSES, small_config, write_annotated_images

from balms_seg.commands.command_line import run_command
from balms_seg.data import build_train_loader
from balms_seg.data.instances.mapper import build_mapper
from balms_seg.evaluation.output.results_file import read_results

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own_project.md"
NAMES = ("my_train", "my_val")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with what the script names; afterwards the names are free again."""
    monkeypatch.chdir(tmp_path)
    for part, classes in (("train", TRAIN_CLASSES), ("val", VAL_CLASSES)):
        write_annotated_images(tmp_path / f"{part}_images", classes)
        (tmp_path / f"{part}_images.json").rename(tmp_path / f"{part}.json")
    settings = {"OUTPUT_DIR": str(tmp_path / "output"), "SOLVER.CHECKPOINT_PERIOD": 100}
    (tmp_path / "output").mkdir()
    Path("my_config.yaml").write_text(small_config(settings).dump())
    yield
    for name in NAMES:
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.mark.usefixtures("project")
def test_the_script_trains_and_evaluates_by_frequency(
    log: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    scope: dict = {}
    exec(block, scope)
    trainer = scope["trainer"]
    predictor = trainer.model.roi_heads.box_predictor
    assert type(predictor.method).__name__ == "BalancedSoftmax"
    assert predictor.cls_score.out_features == 4
    groups = {name: trainer._last_eval_results["segm"][name] for name in ("APr", "APc", "APf")}
    assert "RepeatFactorTrainingSampler draws batches of 2 out of " in log.text
    assert "LongTailedTrainer and balms-seg train read SOLVER.OPTIMIZER AdamW." in log.text
    assert not any(math.isnan(value) for value in groups.values())
    told = re.findall(
        r"The classifier is trained with BalancedSoftmax on .* with .* objects", log.text
    )
    assert len(told) == 1

    words = ["--num-gpus", "0", "MODEL.WEIGHTS", "output/model_final.pth"]
    config = ["--eval-only", "--config-file", "output/config.yaml"]
    run_command("train", [*config, *words, "OUTPUT_DIR", "output/evaluated"])
    run_command("compare", ["output/evaluated", "output/inference", "--resamples", "2"])
    assert "evaluated of seed 1 and inference of unknown seed" in capsys.readouterr().out
    trained = read_results("output/evaluated/results.json")["checkpoint"]
    assert trained["batch_size"] == scope["cfg"].SOLVER.IMS_PER_BATCH


@pytest.mark.usefixtures("project")
def test_the_script_goes_on_with_the_next_images(log: pytest.LogCaptureFixture) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    scope: dict = {}
    exec(block.replace("trainer.train()", ""), scope)
    seen: list[int] = []

    class Recording(scope["Trainer"]):
        @classmethod
        def build_train_loader(cls, cfg: CfgNode) -> Any:
            mapper = build_mapper(cfg)

            def record(entry: dict) -> dict | None:
                seen.append(entry["image_id"])
                return mapper(entry)

            return build_train_loader(cfg, record)

    cfg = scope["cfg"].clone()
    cfg.TEST.EVAL_PERIOD = 0
    runs = {"whole": [(4, False)], "parts": [(2, False), (4, True)]}
    images: dict[str, list[int]] = {}
    for name, parts in runs.items():
        cfg.OUTPUT_DIR = f"output/{name}"
        Path(cfg.OUTPUT_DIR).mkdir()
        for length, resume in parts:
            cfg.SOLVER.MAX_ITER = length
            trainer = Recording(cfg)
            trainer.resume_or_load(resume=resume)
            trainer.train()
        images[name] = seen[:]
        seen.clear()
    assert images["whole"] == images["parts"]
    assert "The images of the first 2 iterations are passed over." in log.text


@pytest.mark.usefixtures("project")
def test_thresholds_are_applied_in_detectron2s_predictor() -> None:
    settings = {"MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0, "DATASETS.TEST": ("my_val",)}
    cfg = small_config(settings)
    Path("output/config.yaml").write_text(cfg.dump())
    torch.save({"model": build_model(cfg).state_dict()}, "output/model_final.pth")
    Path("output/held_out").mkdir()
    thresholds = "MODEL:\n  ROI_BOX_HEAD:\n    CLASS_THRESHOLDS: [1.0, 0.0, 1.0]\n"
    Path("output/held_out/thresholds.yaml").write_text(thresholds)
    (block,) = re.findall(r"## A threshold for .*?```py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    scope: dict = {}
    exec(block, scope)
    found = scope["predictor"](np.full((64, 64, 3), 90, np.uint8))["instances"]
    assert set(found.pred_classes.tolist()) == {1}


@pytest.mark.usefixtures("project")
def test_our_samplers_draw_from_the_list_that_detectron2s_loader_reads() -> None:
    first = json.loads(Path("train.json").read_text())
    empty = first["images"][1]["id"]  # detectron2 leaves it out, and those behind it move up
    first["annotations"] = [a for a in first["annotations"] if a["image_id"] != empty]
    Path("train.json").write_text(json.dumps(first))
    page = PAGE.read_text()
    (script,) = re.findall(r"```python\n(.*?)class Trainer", page, re.DOTALL)
    (block,) = re.findall(r"## Our samplers in .*?```py\n(.*?)```", page, re.DOTALL)
    scope: dict = {}
    exec(script, scope)
    exec(block, scope)
    assert len(scope["dicts"]) == len(first["images"]) - 1
    batches = iter(scope["loader"])
    drawn = {image["image_id"] for _ in range(40) for image in next(batches)}
    assert drawn == {image["id"] for image in first["images"]} - {empty}
