"""A run with a meta step that was stopped goes on as if it had not been; its record survives."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from meta_runs import BANK, RATES, WEIGHTS, assert_equal_states, class_values
from runs import assert_same_tensors, build_trainer, read_checkpoint, run_training

from balms_seg.engine import LongTailedTrainer, train

WORKERS = {"DATALOADER.NUM_WORKERS": 2}


def record_batches(trainer: LongTailedTrainer) -> list[list[int]]:
    """Stream positions of each training batch, and the images at them."""
    step, seen = trainer._trainer, []
    next_batch = step._next_batch

    def recording() -> tuple:
        batch, seconds = next_batch()
        seen.append([(s["stream_position"], s["dataset_index"]) for s in batch])
        return batch, seconds

    step._next_batch = recording
    return seen


def run(settings: dict, output: Path, *flags: str) -> list[list[int]]:
    trainer = build_trainer(settings, output, *flags)
    batches = record_batches(trainer)
    train(trainer, resume="--resume" in flags)
    return batches


slow = pytest.mark.slow


@pytest.mark.parametrize(
    "settings",
    [
        {**WEIGHTS, **BANK},
        pytest.param(WEIGHTS, marks=slow),
        pytest.param(RATES, marks=slow),
        pytest.param({**WEIGHTS, **WORKERS, "META.PERIOD": 2}, marks=slow),
        pytest.param({**RATES, **WORKERS}, marks=slow),
        pytest.param({**RATES, **BANK, **WORKERS}, marks=slow),
    ],
    ids=["weights_bank", "weights", "rates", "weights_workers", "rates_workers", "rates_bank"],
)
def test_a_resumed_run_repeats_the_uninterrupted_one(
    settings: dict, data: dict[str, object], tmp_path: Path
) -> None:
    settings = {
        **data,
        **settings,
        "SOLVER.MAX_ITER": 7,
        "SOLVER.CHECKPOINT_PERIOD": 3,
        "INPUT.RANDOM_FLIP": "horizontal",
    }
    straight = run(settings, tmp_path / "straight")
    halves = tmp_path / "halves"
    halves.mkdir()
    checkpoint = read_checkpoint(tmp_path / "straight" / "model_0000002.pth")
    torch.save(checkpoint, halves / "model_0000002.pth")
    (halves / "last_checkpoint").write_text("model_0000002.pth")
    resumed = run(settings, halves, "--resume")

    assert resumed == straight[3:]
    one, other = (read_checkpoint(f / "model_final.pth") for f in (tmp_path / "straight", halves))
    assert_same_tensors(one["model"], other["model"])
    assert_equal_states(one["trainer"], other["trainer"])
    tables = [(f / "meta_rates.csv").read_text() for f in (tmp_path / "straight", halves)]
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    "learned", [WEIGHTS, pytest.param(RATES, marks=slow)], ids=["weights", "rates"]
)
def test_a_checkpoint_of_other_classes_is_an_error(
    learned: dict, data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **learned}
    run_training(settings, tmp_path)
    path = tmp_path / "model_final.pth"
    checkpoint = read_checkpoint(path)
    state = checkpoint["trainer"]
    names = (
        state["_trainer"]["meta"]["learner"]["classes._extra_state"]
        if learned is WEIGHTS
        else state["data_loader"]["stream"]["parameters"]["_extra_state"]
    )["class_names"]
    assert names == ["class 0", "class 1", "class 2"]
    names[1] = "another"
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match="3 classes of other names"):
        run_training({**settings, "SOLVER.MAX_ITER": 3}, tmp_path, "--resume")


@slow
def test_a_checkpoint_of_another_source_is_an_error(
    data: dict[str, object], tmp_path: Path
) -> None:
    run_training({**data, **WEIGHTS}, tmp_path)
    with pytest.raises(ValueError, match=r"META\.SOURCE"):
        run_training({**data, **WEIGHTS, **BANK, "SOLVER.MAX_ITER": 3}, tmp_path, "--resume")


@slow
def test_learning_may_start_from_a_checkpoint_without_it(
    data: dict[str, object], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    run_training({**data, **WEIGHTS, "META.LEARN": "none"}, tmp_path)
    trainer = run_training({**data, **WEIGHTS, "SOLVER.MAX_ITER": 3}, tmp_path, "--resume")
    assert "what it learns starts anew" in log.text
    assert class_values(trainer).unique().numel() > 1


@slow
def test_what_was_learned_is_logged_and_written(data: dict[str, object], tmp_path: Path) -> None:
    settings = {**data, **RATES, "SOLVER.MAX_ITER": 50, "META.PERIOD": 5}
    trainer = run_training(settings, tmp_path)
    values = class_values(trainer)
    lines = [json.loads(x) for x in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "meta/mean" in line] == [19, 39, 49]
    last = lines[-1]
    assert last["meta/mean"] == pytest.approx(values.mean().item())
    assert last["meta/min"] == pytest.approx(values.min().item())
    assert last["meta/max"] == pytest.approx(values.max().item())
    assert last["meta/rare"] == pytest.approx(values[2].item())
    assert last["meta/frequent"] == pytest.approx(values[0].item())
    never_largest = trainer._trainer.meta.learner.sampler.never_largest()
    assert last["meta/classes_never_largest"] == len(never_largest)

    with open(tmp_path / "meta_rates.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    iterations = sorted({int(row["iteration"]) for row in rows})
    assert iterations[0] == 0
    assert iterations[-1] == 50
    assert len(iterations) == 21
    assert len(rows) == 21 * 3
    final = [row for row in rows if row["iteration"] == "50"]
    assert [row["name"] for row in final] == ["class 0", "class 1", "class 2"]
    assert [row["group"] for row in final] == ["frequent", "common", "rare"]
    assert [row["training_images"] for row in final] == ["6", "2", "1"]
    assert [float(row["value"]) for row in final] == pytest.approx(values.tolist(), rel=1e-5)


def test_a_bank_larger_than_allowed_stops_before_training(
    data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, **WEIGHTS, **BANK, "META.BANK.BACKGROUND": 10**6}
    with pytest.raises(ValueError, match=r"META\.BANK\.MAX_MEMORY_MB 20 MiB"):
        build_trainer({**settings, "META.BANK.MAX_MEMORY_MB": 20}, tmp_path)
