"""A dry run says what a run would be, and leaves nothing behind."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from image_sets import SMALL as IMAGES
from image_sets import write_image_sets
from made_up_data import SMALL, small_config, words, write_data_sets
from meta_runs import WEIGHTS
from runs import build_trainer, read_checkpoint, run_training
from torch import nn

from balms_seg.commands.command_line import run_command
from balms_seg.engine import train
from balms_seg.engine.run_summary import describe_schedule
from balms_seg.engine.training_memory import activation_bytes, mask_logit_bytes, training_memory


def dry_run(settings: dict[str, object], *flags: str) -> None:
    base = ["--config-file", "toy/base.yaml", "--num-gpus", "0", "--dry-run", *flags]
    run_command("train", [*base, *words({**SMALL, **settings})])


def test_what_a_run_would_be_is_told_and_nothing_is_left(
    data: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of six images, that of the rare class is drawn twice as often.
    threshold = {"DATALOADER.REPEAT_THRESHOLD": 4 / 6}
    dry_run({**data, **threshold, "OUTPUT_DIR": str(tmp_path / "out")})
    told = capsys.readouterr().out
    assert "3 classes (1 rare, 1 common, 1 frequent)" in told
    assert "iterations 0 to 1 of 2 images, in all 0.667 times the training set" in told
    before, after = re.search(r"rare ([\d.]+)% -> ([\d.]+)%", told).groups()
    assert float(after) > float(before)
    assert re.search(
        r"at least [\d,]+ [KM]iB on the CPU: weights .* activations \(2 x [\d,]+ [KM]iB\) \d", told
    )
    assert "evaluation at the end; checkpoint" in told
    assert not (tmp_path / "out").exists()


def test_a_schedule_is_told_in_whole_numbers_and_steps_that_are_reached() -> None:
    settings = {"MAX_ITER": 90000, "IMS_PER_BATCH": 8, "STEPS": (60000, 80000, 120000)}
    cfg = small_config({f"SOLVER.{key}": value for key, value in settings.items()})
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupMultiStepLR"
    told, _ = describe_schedule(cfg, 93, 0)
    assert "in all 7,742 times the training set" in told
    assert told.endswith("with steps at 60000, 80000")
    # 93 images are 11.6 batches of 8.
    assert "(SOLVER.MAX_ITER; SOLVER.EPOCHS 50, say, would be 581 iterations)" in told


def test_the_iterations_that_are_left_are_told_with_both_ends() -> None:
    cfg = small_config({"SOLVER.MAX_ITER": 30, "SOLVER.IMS_PER_BATCH": 8})
    told = [describe_schedule(cfg, 93, done)[0] for done in (21, 29, 30)]
    assert told[0].startswith("iterations 21 to 29 of 8 images")
    assert told[1].startswith("iteration 29, the last one, of 8 images")
    assert told[2].startswith("no iteration left (30 of 30 are done), of 8 images")


def test_images_without_an_object_are_counted_where_they_are_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = write_data_sets(tmp_path)
    path = tmp_path / "train.json"
    content = json.loads(path.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 5]
    path.write_text(json.dumps(content))
    kept = {"DATALOADER.FILTER_EMPTY_ANNOTATIONS": False, "OUTPUT_DIR": str(tmp_path / "out")}
    dry_run({**settings, **kept, "SOLVER.EPOCHS": 2, "DATASETS.TEST": ()})
    told = capsys.readouterr().out
    assert "no evaluation; checkpoint" in told
    assert "_train: 6 images (1 without an object), 8 objects" in told
    # Three batches of two images are one epoch.
    length = "iterations 0 to 5 of 2 images, in all 2 times the training set (SOLVER.EPOCHS 2)"
    assert length in told


def test_mask_logits_of_lvis_are_counted_with_their_gradient() -> None:
    settings = {
        "MODEL.ROI_HEADS.NUM_CLASSES": 1203,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 512,
        "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.25,
        "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
        "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": False,
    }
    cfg = small_config(settings)
    model = nn.ModuleDict({"backbone": nn.Linear(1, 1), "roi_heads": nn.Linear(1, 1)})
    assert mask_logit_bytes(cfg, model) == 2 * 128 * 1203 * 28 * 28 * 4
    model["backbone"].requires_grad_(False)  # the box classifier alone is trained
    assert mask_logit_bytes(cfg, model) == 128 * 1203 * 28 * 28 * 4
    cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = True
    assert mask_logit_bytes(cfg, model) == 128 * 28 * 28 * 4
    cfg.MODEL.MASK_ON = False
    assert mask_logit_bytes(cfg, model) == 0


def test_a_stage_that_trains_a_part_keeps_gradients_and_momentum_of_that_part(
    data: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = {
        "MODEL.TRAIN_ONLY": ["roi_heads.box_predictor"],
        "MODEL.WEIGHTS": "",
        "SOLVER.OPTIMIZER": "AdamW",
        "OUTPUT_DIR": str(tmp_path / "out"),
    }
    dry_run({**data, **stage})
    told = capsys.readouterr().out
    total, trained = re.search(r"([\d,]+) parameters, of which ([\d,]+) are trained", told).groups()
    assert int(trained.replace(",", "")) < int(total.replace(",", "")) / 10
    kept = 4 * int(trained.replace(",", "")) / 2**10
    assert f"gradients {kept:,.0f} KiB, optimiser {2 * kept:,.0f} KiB" in told


def test_activations_are_those_of_an_image_full_of_objects(
    data: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = []

    def measure(forward: Callable, batch: list[dict], model: nn.Module) -> int:
        seen.append(len(batch[0]["instances"]))
        return activation_bytes(forward, batch, model)

    monkeypatch.setattr("balms_seg.engine.dry_run.activation_bytes", measure)
    rows = {"MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 40, "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.5}
    dry_run({**data, **rows, "OUTPUT_DIR": str(tmp_path / "out")})
    assert seen[0] >= 20
    assert re.search(
        r"activations \(2 x [\d,]+ [KM]iB\) \d.* logits of masks \d", capsys.readouterr().out
    )


def test_a_classifier_alone_keeps_its_rows_for_the_backward_pass(
    data: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dry_run({**data, **WEIGHTS, "OUTPUT_DIR": str(tmp_path / "out")})
    told = capsys.readouterr().out
    assert "what the trunk holds on its way" in told
    assert "classifier balanced_sigmoid, from scratch" in told  # BALMS' heads fix it
    trained = re.search(r"parameters, of which ([\d,]+) are trained", told)[1]
    assert int(trained.replace(",", "")) < 1000


def test_images_are_planned_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {
        **IMAGES,
        **write_image_sets(tmp_path),
        "TEST.LONG_TAILED.GROUP_BOUNDS": (2, 6),  # of 2, 6 and 12 images
        "DATALOADER.SAMPLER_TRAIN": "ClassBalancedTrainingSampler",
        "OUTPUT_DIR": str(tmp_path / "out"),
    }
    base = ["--config-file", "classification/base.yaml", "--num-gpus", "0", "--dry-run"]
    run_command("train", [*base, *words(settings)])
    told = capsys.readouterr().out
    shares = "few 10.0% -> 33.3%, medium 30.0% -> 33.3%, many 60.0% -> 33.3%"
    assert f"share of images, in the set -> as drawn at first: {shares}" in told
    assert not (tmp_path / "out").exists()


def test_the_schedule_is_that_of_the_processes_asked_for(
    data: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {
        "SOLVER.REFERENCE_WORLD_SIZE": 1,
        "SOLVER.MAX_ITER": 8,
        "OUTPUT_DIR": str(tmp_path / "out"),
    }
    dry_run({**data, **settings, "SOLVER.CHECKPOINT_PERIOD": 1}, "--num-gpus", "4")
    told = capsys.readouterr().out
    assert "iterations 0 to 1 of 8 images" in told
    size, of_one = map(
        float, re.search(r"about ([\d.]+) GB for checkpoints of ([\d.]+) GB", told).groups()
    )
    assert "2 of 2 periodic ones (SOLVER.CHECKPOINTS_TO_KEEP 3 newest" in told
    assert size == pytest.approx(3 * of_one, rel=0.1)
    least, planned = re.search(
        r"at least (\d+) MiB on each of 4 GPUs, plan with (\d+) MiB:", told
    ).groups()
    assert int(planned) - 512 == pytest.approx(1.8 * (int(least) - 512), abs=2)
    assert "are trained, on 4 GPUs" in told


def test_what_stops_a_run_stops_its_dry_run(data: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--eval-only needs weights: give MODEL.WEIGHTS PATH"):
        dry_run({**data, "OUTPUT_DIR": str(tmp_path)}, "--eval-only")
    with pytest.raises(SystemExit, match="IMS_PER_BATCH is 2, which cannot be shared out among 3"):
        dry_run({**data, "OUTPUT_DIR": str(tmp_path / "other")}, "--num-gpus", "3")


def test_without_lvis_a_plan_says_where_its_costs_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    config = "lvis_v0.5/paper_feature_sigmoid_mask_rcnn_R_50_FPN_1x.yaml"
    words = ["--config-file", config, "--num-gpus", "8", "--dry-run", "OUTPUT_DIR", str(tmp_path)]
    costs = r"\nWithout the data, hours and memory of LVIS are in docs/training_cost\.md\.$"
    with pytest.raises(SystemExit, match=rf"(?s)2 problems before the start:.*{costs}"):
        run_command("train", words)


def test_a_used_folder_is_planned_as_a_new_run_or_as_the_rest_of_the_old_one(
    data: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_training({**data, "DATASETS.TEST": ()}, tmp_path)

    def files() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.name != "log.txt"}

    before = files()
    longer = {**data, "SOLVER.MAX_ITER": 5, "OUTPUT_DIR": str(tmp_path)}
    capsys.readouterr()
    dry_run(longer)
    told = capsys.readouterr().out
    assert "iterations 0 to 4 of 2 images" in told
    assert "holds an earlier run (last_checkpoint, metrics.json" in told
    assert "The run needs --resume, --overwrite or another OUTPUT_DIR." in told
    dry_run(longer, "--resume")
    told = capsys.readouterr().out
    assert "from the checkpoint of iteration 1" in told
    assert "iterations 2 to 4 of 2 images" in told
    assert "earlier run" not in told
    size = float(re.search(r"GB for checkpoints of ([\d.]+) GB: the final one and", told)[1])
    content = read_checkpoint(tmp_path / "model_final.pth")
    states = content["trainer"]["_trainer"]["optimizer"]["state"].values()
    moments = [moment for state in states for moment in state.values() if moment is not None]
    held = sum(tensor.nbytes for tensor in [*content["model"].values(), *moments])
    assert size == pytest.approx(held / 1e9, rel=0.06)  # told in two digits
    assert files() == before
    with pytest.raises(SystemExit, match="CLASSIFIER was 'balanced_softmax' and is 'softmax'"):
        dry_run({**longer, "MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax"}, "--resume")


def test_an_evaluation_is_checked_with_its_checkpoint(
    data: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_training({**data, "DATASETS.TEST": ()}, tmp_path)
    before = sorted(tmp_path.iterdir())
    weights = tmp_path / "model_final.pth"
    settings = {**data, "OUTPUT_DIR": str(tmp_path)}
    for named, flags in (({"MODEL.WEIGHTS": str(weights)}, []), ({}, ["--resume"])):
        capsys.readouterr()
        dry_run({**settings, **named}, "--eval-only", *flags)
        told = capsys.readouterr().out
        assert re.search(r"evaluated on \S+_val: \d+ images", told)
        assert f"parameters, all of them in {weights}" in told
    other = {**settings, "MODEL.ROI_BOX_HEAD.FC_DIM": 12, "MODEL.WEIGHTS": str(weights)}
    with pytest.raises(SystemExit, match="in another shape. Check the configuration"):
        dry_run(other, "--eval-only")
    trunk = tmp_path.with_name("trunk.pth")
    model = read_checkpoint(weights)["model"].items()
    only = {name: value for name, value in model if name.startswith("backbone.bottom_up.")}
    torch.save({"model": only, "matching_heuristics": True}, trunk)
    with pytest.raises(SystemExit, match="backbone.fpn.*It fills the backbone alone: give"):
        dry_run({**settings, "MODEL.WEIGHTS": str(trunk)}, "--eval-only")
    assert sorted(tmp_path.iterdir()) == before


def test_activations_are_what_the_backward_pass_keeps() -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    rows = torch.zeros(11, 5)
    # The input, which the first layer's weight needs, and the ReLU's output, which two need.
    assert activation_bytes(model, rows, model) == 4 * (11 * 5 + 11 * 7)
    model[0].requires_grad_(False)
    assert activation_bytes(model, rows, model) == 4 * 11 * 7
    memory = training_memory(model, 10, optimizer="AdamW", has_average=True)
    weights, trained = 4 * (5 * 7 + 7 + 7 * 3 + 3), 4 * (7 * 3 + 3)
    assert (memory.weights, memory.average) == (weights, weights)
    assert (memory.gradients, memory.optimizer) == (trained, 2 * trained)
    assert memory.activations == 10


def test_a_device_without_memory_left_names_the_key_to_halve(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    trainer = build_trainer({**data, "SOLVER.IMS_PER_BATCH": 6}, tmp_path)
    monkeypatch.setattr(trainer._trainer, "_forward", full)
    keys = r"SOLVER\.IMS_PER_BATCH 3 SOLVER\.REFERENCE_IMS_PER_BATCH 6"
    with pytest.raises(torch.OutOfMemoryError, match=keys):
        train(trainer)


def test_a_second_stage_is_planned_before_the_first_is_trained(
    data: dict[str, object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = {
        "MODEL.STAGE_ONE_CONFIG": "toy/feature_softmax.yaml",
        "MODEL.WEIGHTS": str(tmp_path / "absent" / "model_final.pth"),
        "MODEL.TRAIN_ONLY": ["roi_heads.box_predictor.cls_score"],
        "OUTPUT_DIR": str(tmp_path / "out"),
    }
    dry_run({**data, **settings})
    assert "iterations 0 to 1" in capsys.readouterr().out
    assert "so train that first" in caplog.text
    assert "The plan goes on from scratch" in caplog.text


def test_weights_that_cannot_be_downloaded_do_not_stop_a_plan(
    data: dict[str, object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/R-50.pkl"
        dry_run({**data, "MODEL.WEIGHTS": address, "OUTPUT_DIR": str(tmp_path / "out")})
    assert "iterations 0 to 1" in capsys.readouterr().out
    assert f"Download {address}" in caplog.text


def test_a_flag_among_the_keys_is_named_before_a_gpu_is_missed() -> None:
    command = ["--config-file", "toy/base.yaml", "--dry-run", "OUTPUT_DIR", "out"]
    right = "--num-gpus 4 --resume --config-file toy/base.yaml --dry-run OUTPUT_DIR out SEED 1"
    where = f"--num-gpus stands behind .* before the first KEY: balms-seg train {right}$"
    with pytest.raises(SystemExit, match=where):
        run_command("train", [*command, "--num-gpus", "4", "SEED", "1", "--resume"])
