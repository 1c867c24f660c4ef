"""What a run leaves behind, and the settings that change how it evaluates."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from made_up_data import NUM_CLASSES, write_data_sets
from PIL import Image
from runs import (
    assert_same_tensors,
    build_trainer,
    read_checkpoint,
    run_evaluation,
    run_training,
)

import balms_seg
from balms_seg.engine import LongTailedTrainer, train
from balms_seg.evaluation import read_results

METRICS = {"AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"}


@pytest.fixture(scope="module")
def finished(
    data: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> LongTailedTrainer:
    """A run of two iterations."""
    return run_training(data, tmp_path_factory.mktemp("finished"))


def output_of(trainer: LongTailedTrainer) -> Path:
    return Path(trainer.cfg.OUTPUT_DIR)


def val_metrics(output: Path, data: dict[str, object]) -> dict:
    return read_results(output / "results.json")["metrics"][data["DATASETS.TEST"][0]]


def assert_same_metrics(one: dict, other: dict) -> None:
    """nan equals nan."""
    assert json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def test_the_resolved_configuration_is_saved(finished: LongTailedTrainer) -> None:
    saved = yaml.safe_load((output_of(finished) / "config.yaml").read_text())
    assert saved == yaml.safe_load(finished.cfg.dump())


def test_metrics_are_logged_with_losses_rate_and_evaluation(finished: LongTailedTrainer) -> None:
    lines = (output_of(finished) / "metrics.json").read_text().splitlines()
    logged = {key: value for line in lines for key, value in json.loads(line).items()}
    losses = {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"}
    assert losses | {"total_loss", "lr", "bbox/AP", "segm/APr"} <= logged.keys()
    assert logged["total_loss"] == pytest.approx(sum(logged[name] for name in losses), rel=1e-5)


def test_results_are_a_complete_record(
    finished: LongTailedTrainer, data: dict[str, object]
) -> None:
    results = read_results(output_of(finished) / "results.json")
    (val,) = data["DATASETS.TEST"]
    for task in ("bbox", "segm"):
        assert results["metrics"][val][task].keys() >= METRICS
        sizes = results["group_sizes"][val].values()
        assert sum(size["classes"] for size in sizes) == NUM_CLASSES
    assert results["iteration"] == 2
    assert results["seed"] == finished.cfg.SEED
    assert yaml.safe_load(results["config"]) == yaml.safe_load(finished.cfg.dump())
    assert {"detectron2", "torch", "numpy"} <= results["versions"].keys()
    assert results["versions"]["balms_seg"] == balms_seg.__version__  # also of a checkout
    assert results["versions"]["torch"] == torch.__version__.split("+")[0]
    assert 0 < results["time_seconds"] < 3600
    assert {"schema_version", "commit"} <= results.keys()


def test_the_last_checkpoint_is_the_trained_model(finished: LongTailedTrainer) -> None:
    output = output_of(finished)
    assert (output / "last_checkpoint").read_text() == "model_final.pth"
    checkpoint = read_checkpoint(output / "model_final.pth")
    assert checkpoint["iteration"] == 1
    assert_same_tensors(checkpoint["model"], finished.model.state_dict())
    assert not list(output.glob("*.partial"))


def test_evaluation_alone_gives_the_same_metrics(
    finished: LongTailedTrainer,
    data: dict[str, object],
    tmp_path: Path,
    log: pytest.LogCaptureFixture,
) -> None:
    weights = {"MODEL.WEIGHTS": str(output_of(finished) / "model_final.pth")}
    returned = run_evaluation({**data, **weights}, tmp_path)
    assert f"Weights: {weights['MODEL.WEIGHTS']}" in log.messages
    after_training = val_metrics(output_of(finished), data)
    assert_same_metrics(val_metrics(tmp_path, data), after_training)
    assert_same_metrics(returned, finished._last_eval_results)


def test_evaluation_alone_of_the_last_checkpoint_of_the_output_folder(
    finished: LongTailedTrainer,
    data: dict[str, object],
    tmp_path: Path,
    log: pytest.LogCaptureFixture,
) -> None:
    output = shutil.copytree(output_of(finished), tmp_path / "copy")
    (output / "results.json").unlink()
    run_evaluation(data, output, "--resume")
    assert f"Weights: {output / 'model_final.pth'}" in log.messages
    assert_same_metrics(val_metrics(output, data), val_metrics(output_of(finished), data))


def test_evaluation_alone_needs_no_training_set(
    finished: LongTailedTrainer, data: dict[str, object], tmp_path: Path
) -> None:
    settings = {
        **data,
        "DATASETS.REGISTER": data["DATASETS.REGISTER"][1:],
        "DATASETS.TRAIN": ("not_on_this_machine",),
        "MODEL.WEIGHTS": str(output_of(finished) / "model_final.pth"),
    }
    run_evaluation(settings, tmp_path)
    assert_same_metrics(val_metrics(tmp_path, data), val_metrics(output_of(finished), data))


def test_copy_paste_lines_are_logged(
    finished: LongTailedTrainer, log: pytest.LogCaptureFixture
) -> None:
    LongTailedTrainer.test(finished.cfg, finished.model)
    lines = [m.removeprefix("copypaste: ") for m in log.messages if m.startswith("copypaste")]
    assert [line for line in lines if line.startswith("Task")] == ["Task: bbox", "Task: segm"]
    names, values = lines[1].split(","), lines[2].split(",")
    assert len(names) == len(values)
    assert names[:3] == ["AP", "AP50", "AP75"]


def test_evaluation_during_training_does_not_change_it(
    finished: LongTailedTrainer,
    data: dict[str, object],
    tmp_path: Path,
    log: pytest.LogCaptureFixture,
) -> None:
    trainer = run_training({**data, "TEST.EVAL_PERIOD": 1}, tmp_path)
    assert sum(message == "copypaste: Task: bbox" for message in log.messages) == 2
    assert_same_tensors(trainer.model.state_dict(), finished.model.state_dict())


def test_an_evaluation_half_way_names_its_iteration(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterations = []
    monkeypatch.setattr(
        "balms_seg.engine.run_results.write_results",
        lambda *args, **entries: iterations.append(entries["iteration"]),
    )
    run_training({**data, "TEST.EVAL_PERIOD": 2, "SOLVER.MAX_ITER": 3}, tmp_path)
    assert iterations == [2, 3]


def test_expected_results_that_hold_are_silent(data: dict[str, object], tmp_path: Path) -> None:
    expected = [["bbox", "AP", 50.0, 50.0]]
    run_training({**data, "TEST.EXPECTED_RESULTS": expected}, tmp_path)


@pytest.mark.parametrize("eval_only", [False, True])
def test_expected_results_that_fail_end_the_job_with_an_error(
    eval_only: bool, finished: LongTailedTrainer, data: dict[str, object], tmp_path: Path
) -> None:
    settings = {
        **data,
        "TEST.EXPECTED_RESULTS": [["bbox", "AP", 1000.0, 0.1]],
        "MODEL.WEIGHTS": str(output_of(finished) / "model_final.pth"),
    }
    with pytest.raises(SystemExit) as exit_:
        (run_evaluation if eval_only else run_training)(settings, tmp_path)
    assert exit_.value.code not in (0, None)
    assert (tmp_path / "results.json").is_file()


def test_precise_batch_norm_replaces_the_running_statistics(
    finished: LongTailedTrainer, data: dict[str, object], tmp_path: Path
) -> None:
    settings = {"TEST.PRECISE_BN.ENABLED": True, "TEST.PRECISE_BN.NUM_ITER": 2}
    trainer = run_training({**data, **settings, "TEST.EVAL_PERIOD": 2}, tmp_path)
    plain = finished.model.state_dict()
    precise = trainer.model.state_dict()
    changed = {name for name in plain if not torch.equal(plain[name], precise[name])}
    assert changed
    assert all("running_" in name or "num_batches" in name for name in changed)
    assert_same_tensors(read_checkpoint(tmp_path / "model_final.pth")["model"], precise)


def test_test_time_augmentation_adds_results_of_its_own(
    data: dict[str, object], tmp_path: Path
) -> None:
    settings = {"TEST.AUG.ENABLED": True, "TEST.AUG.MIN_SIZES": (64, 80)}
    trainer = run_training({**data, **settings}, tmp_path)
    assert trainer._last_eval_results.keys() == {"bbox", "segm", "bbox_TTA", "segm_TTA"}
    assert val_metrics(tmp_path, data).keys() == {"bbox", "segm"}
    augmented = val_metrics(tmp_path / "inference_TTA", data)
    assert augmented["bbox"].keys() >= METRICS
    weights = {"MODEL.WEIGHTS": str(tmp_path / "model_final.pth")}
    returned = run_evaluation({**data, **settings, **weights}, tmp_path / "again")
    assert_same_metrics(returned, trainer._last_eval_results)


def test_mixed_precision_trains_close_to_full_precision(
    finished: LongTailedTrainer, data: dict[str, object], tmp_path: Path
) -> None:
    trainer = run_training({**data, "SOLVER.AMP.ENABLED": True}, tmp_path)
    parameters = dict(finished.model.named_parameters())
    distances = []
    for name, parameter in trainer.model.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.isfinite().all()
        distances.append((parameter - parameters[name]).abs().max().item())
    assert 0 < max(distances) < 0.05


def test_training_can_be_visualised_without_tensorboard(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *a: None if name == "tensorboard" else find(name, *a),
    )
    trainer = run_training({**data, "VIS_PERIOD": 1}, tmp_path)
    assert trainer.iter == 2
    pictures = sorted((tmp_path / "training_pictures").iterdir())
    assert {int(path.name[:7]) for path in pictures} == {0, 1}
    assert all(min(Image.open(path).size) >= 8 for path in pictures)
    assert len(pictures) == len({path.name[:9] for path in pictures})
    assert trainer.storage._vis_data == []


def test_each_set_of_several_has_its_own_results(
    finished: LongTailedTrainer, data: dict[str, object], tmp_path: Path
) -> None:
    other = write_data_sets(tmp_path / "other")
    names = (*data["DATASETS.TEST"], *other["DATASETS.TEST"])
    settings = {
        **data,
        "DATASETS.REGISTER": data["DATASETS.REGISTER"] + other["DATASETS.REGISTER"],
        "DATASETS.TEST": names,
        "MODEL.WEIGHTS": str(output_of(finished) / "model_final.pth"),
    }
    returned = run_evaluation(settings, tmp_path)
    results = read_results(tmp_path / "results.json")
    assert tuple(returned) == tuple(results["metrics"]) == tuple(results["group_sizes"]) == names
    for name in names:
        assert_same_metrics(results["metrics"][name], val_metrics(output_of(finished), data))
        assert (tmp_path / "inference" / name / "per_class_bbox.csv").is_file()


def test_a_run_with_several_sets_trains_to_the_end(data: dict[str, object], tmp_path: Path) -> None:
    other = write_data_sets(tmp_path / "other")
    settings = {
        **data,
        "DATASETS.REGISTER": data["DATASETS.REGISTER"] + other["DATASETS.REGISTER"],
        "DATASETS.TRAIN": (*data["DATASETS.TRAIN"], *other["DATASETS.TRAIN"]),
        "DATASETS.TEST": (*data["DATASETS.TEST"], *other["DATASETS.TEST"]),
    }
    trainer = run_training(settings, tmp_path / "out")
    assert trainer.data_loader.stream.state_dict()
    logged = (tmp_path / "out" / "metrics.json").read_text()
    assert f"{other['DATASETS.TEST'][0]}/bbox/AP" in logged


def test_without_a_test_set_the_run_ends_without_results(
    data: dict[str, object], tmp_path: Path
) -> None:
    assert train(build_trainer({**data, "DATASETS.TEST": ()}, tmp_path)) is None
    assert (tmp_path / "model_final.pth").is_file()
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("classifier", ["softmax", "sigmoid", "balanced_sigmoid"])
def test_every_other_classifier_trains_and_evaluates(
    classifier: str, data: dict[str, object], tmp_path: Path
) -> None:
    settings = {"MODEL.ROI_BOX_HEAD.CLASSIFIER": classifier}
    trainer = run_training({**data, **settings}, tmp_path)
    assert not math.isnan(trainer._last_eval_results["segm"]["AP"])


def test_a_negative_seed_is_drawn_logged_and_saved(
    data: dict[str, object], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    settings = {**data, "SEED": -1, "SOLVER.CHECKPOINT_PERIOD": 1}
    trainer = run_training(settings, tmp_path)
    seed = trainer.cfg.SEED
    assert seed >= 0
    assert any(f"SEED was not set: it is {seed}" in message for message in log.messages)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["SEED"] == seed
    assert read_results(tmp_path / "results.json")["seed"] == seed
    assert read_checkpoint(tmp_path / "model_final.pth")["trainer"]["seed"] == seed
    again = build_trainer(settings, tmp_path / "other")
    assert seed != again.cfg.SEED


@pytest.mark.slow
def test_a_resumed_run_keeps_the_seed_that_was_drawn(
    data: dict[str, object], tmp_path: Path
) -> None:
    settings = {**data, "SEED": -1}
    seed = run_training(settings, tmp_path).cfg.SEED
    (tmp_path / "config.yaml").write_text("MODEL: [cut short by a ki")
    resumed = run_training({**settings, "SOLVER.MAX_ITER": 3}, tmp_path, "--resume")
    assert resumed._trainer.seed == seed
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["SEED"] == seed
    assert read_results(tmp_path / "results.json")["seed"] == seed
