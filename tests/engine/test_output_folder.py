"""What an evaluation finds in its output folder is kept, and said to be."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from image_runs import build_image_trainer, run_image_evaluation, run_image_training
from image_sets import write_image_sets

from balms_seg.engine.output_folder import (
    earlier_run,
    prepare_output_folder,
    set_evaluation_aside,
)
from balms_seg.evaluation.images.stored_comparison import prediction_files
from balms_seg.evaluation.predictions.staged_files import appearing_together


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    """A folder with files of an evaluation, and predictions of another that was interrupted."""
    (tmp_path / "model.pth").write_text("weights")
    (tmp_path / "inference" / "set" / "parts").mkdir(parents=True)
    for name in ("config.yaml", "inference/set/found.csv", "inference/set/parts/part_0"):
        (tmp_path / name).write_text(name)
    (tmp_path / "results.json").write_text(
        json.dumps({"schema_version": 1, "metrics": {}, "config": "SEED: 1\nMODEL: a\n"})
    )
    os.utime(tmp_path / "model.pth", (0, 0))
    return tmp_path


def test_the_results_of_another_evaluation_move_away_whole(evaluated: Path) -> None:
    weights = str(evaluated / "model.pth")
    said = set_evaluation_aside(evaluated, config="SEED: 1\nMODEL: b\n", weights=weights)
    kept = evaluated / "earlier_evaluation_1"
    assert str(kept) in said
    assert (kept / "inference" / "set" / "found.csv").read_text() == "inference/set/found.csv"
    assert json.loads((kept / "results.json").read_text())["config"] == "SEED: 1\nMODEL: a\n"
    assert (kept / "config.yaml").read_text() == "SEED: 1\nMODEL: a\n"
    assert not (evaluated / "results.json").exists()
    assert (evaluated / "inference" / "set" / "parts" / "part_0").is_file()  # to be taken up
    assert set_evaluation_aside(evaluated, config="MODEL: c\n", weights=weights) is None


def test_what_an_evaluation_is_writing_is_left_to_it(evaluated: Path) -> None:
    """That of a training, which would not survive it."""
    with appearing_together(evaluated / "inference" / "set", "of a training") as staging:
        (staging / "found.csv").write_text("new")
        assert set_evaluation_aside(evaluated, config="MODEL: b\n", weights="")
    assert (evaluated / "inference" / "set" / "found.csv").read_text() == "new"
    moved = evaluated / "earlier_evaluation_1" / "inference" / "set" / "found.csv"
    assert moved.read_text() == "inference/set/found.csv"


def test_the_same_evaluation_takes_its_own_place(evaluated: Path) -> None:
    weights = evaluated / "model.pth"
    again = {"config": "SEED: 2\nMODEL: a\n", "weights": str(weights)}
    assert set_evaluation_aside(evaluated, **again) is None
    assert (evaluated / "results.json").is_file()
    later = (evaluated / "results.json").stat().st_mtime + 1
    os.utime(weights, (later, later))  # other weights under the same name
    assert "earlier_evaluation_1" in set_evaluation_aside(evaluated, **again)


def test_a_start_without_its_weights_leaves_the_folder_free(tmp_path: Path) -> None:
    sets, run = write_image_sets(tmp_path), tmp_path / "run"
    lost = {"MODEL.WEIGHTS": "http://127.0.0.1:1/lost.pth"}
    for _ in range(2):  # the second is not refused for what the first left
        with pytest.raises(OSError, match="refused|lost.pth"):
            run_image_training({**sets, **lost}, run)
    assert not earlier_run(run)


def test_a_run_that_has_just_started_is_not_written_over(tmp_path: Path) -> None:
    sets, run = write_image_sets(tmp_path), tmp_path / "run"
    build_image_trainer(sets, run)
    with pytest.raises(ValueError, match="metrics.json"):
        build_image_trainer(sets, run)


def test_what_training_found_stays_beside_an_evaluation_in_its_folder(tmp_path: Path) -> None:
    sets, run = write_image_sets(tmp_path), tmp_path / "run"
    run_image_training(sets, run)
    of_training = (run / "results.json").read_bytes()
    config = (run / "config.yaml").read_text()
    weights = {"MODEL.WEIGHTS": str(run / "model_final.pth")}
    for temperature in (2.0, 2.0, 3.0):
        key = {"MODEL.IMAGE_CLASSIFIER.CALIBRATION.TEMPERATURE": temperature}
        run_image_evaluation({**sets, **weights, **key}, run)
        assert (run / "config.yaml").read_text() == config
    assert (run / "earlier_evaluation_1" / "results.json").read_bytes() == of_training
    assert (run / "earlier_evaluation_1" / "config.yaml").read_text() == config
    assert "TEMPERATURE: 2.0" in (run / "earlier_evaluation_2" / "config.yaml").read_text()
    assert not (run / "earlier_evaluation_3").exists()
    assert (run / "log.txt").read_text().count("held the results of another evaluation") == 2
    assert list(prediction_files(run)) == ["inference"]
    assert list(prediction_files(run / "earlier_evaluation_1")) == ["inference"]


def test_what_was_made_of_an_earlier_run_goes_with_it(evaluated: Path) -> None:
    """Thresholds are of weights that are no longer there."""
    made = ("thresholds.yaml", "thresholds.csv", "suspicious_labels.csv", "report.html")
    for name in (*made, "notes.txt"):
        (evaluated / name).write_text(name)
    prepare_output_folder(evaluated, resume=False, overwrite=True)
    assert {path.name for path in evaluated.iterdir()} == {"earlier_run_1", "notes.txt"}
    assert (evaluated / "earlier_run_1" / "thresholds.yaml").read_text() == "thresholds.yaml"
