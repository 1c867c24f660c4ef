"""What a training starts from is not taken for what it trains, and nothing is downloaded for it."""

import json
from pathlib import Path

import pytest

from balms_seg.commands.command_line import run_command
from balms_seg.engine import load_config
from balms_seg.engine.required_weights import (
    refuse_start_weights,
    require_trained_weights,
    require_weights,
)
from balms_seg.engine.run_config import read_run_config
from balms_seg.engine.tuning.calibrated_config import write_calibrated_config


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """Of a run that started from somebody's weights and trained its own."""
    (tmp_path / "model_0000001.pth").touch()
    (tmp_path / "model_final.pth").touch()
    (tmp_path / "last_checkpoint").write_text("model_final.pth")
    path = tmp_path / "config.yaml"
    path.write_text("MODEL:\n  WEIGHTS: https://models.example/start.pkl\n")
    return path


def test_the_start_is_refused_and_the_checkpoint_named(config_file: Path) -> None:
    expected = rf"start\.pkl.*MODEL.WEIGHTS {config_file.parent / 'model_final.pth'}"
    with pytest.raises(ValueError, match=expected):
        refuse_start_weights(load_config(config_file), config_file)
    with pytest.raises(ValueError, match=expected):
        read_run_config(config_file)


def test_weights_that_are_named_are_taken(config_file: Path) -> None:
    said = ["MODEL.WEIGHTS", "elsewhere.pth"]
    refuse_start_weights(load_config(config_file, said), config_file, said)


def test_weights_beside_a_configuration_are_its_own(config_file: Path) -> None:
    weights = config_file.parent / "model_final.pth"
    config_file.write_text(f"MODEL:\n  WEIGHTS: {weights}\n")
    refuse_start_weights(load_config(config_file), config_file)


@pytest.mark.parametrize(
    ("words", "added"),
    [
        ([], ";"),
        (["SEED", "1"], " SEED 1;"),
        (
            ["SEED", "2", "MODEL.WEIGHTS", "output/seed2/features/model_final.pth"],
            " SEED 2 OUTPUT_DIR output/seed2/features;",
        ),
        (["SEED", "2", "MODEL.WEIGHTS", "somebody.pth"], " SEED 2;"),
    ],
)
def test_the_stage_before_is_named_with_this_run_s_seed_and_folder(
    words: list[str], added: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = load_config("lvis_v0.5/paper_balms_reweighter_mask_rcnn_R_50_FPN.yaml", words)
    command = "balms-seg train --config-file lvis_v0.5/paper_feature_sigmoid_mask_rcnn_R_50_FPN_1x"
    with pytest.raises(FileNotFoundError) as error:
        require_weights(cfg, resume=False, eval_only=False, num_gpus=8)
    assert f"{command}.yaml --num-gpus 8{added} or give the path" in str(error.value)


@pytest.mark.parametrize("flags", [["--eval-only"], ["--eval-only", "--resume", "--dry-run"]])
def test_an_evaluation_does_not_go_for_the_address_that_a_training_starts_from(
    flags: list[str], tmp_path: Path
) -> None:
    words = ["--config-file", "custom/mask_rcnn_R_50_FPN.yaml", "--num-gpus", "0", *flags]
    said = rf"_f10217\.pkl, which a training of it .* PATH; OUTPUT_DIR \({tmp_path}\) has no check"
    with pytest.raises(SystemExit, match=said):
        run_command("train", [*words, "OUTPUT_DIR", str(tmp_path)])


@pytest.mark.parametrize("start", ["detectron2://ImageNetPretrained/MSRA/R-50.pkl", "coco.pth"])
def test_the_checkpoint_of_the_output_folder_is_named_in_place_of_the_start(
    start: str, config_file: Path
) -> None:
    config_file = config_file.rename(config_file.with_name("mine.yaml"))
    config_file.write_text(f"MODEL: {{WEIGHTS: '{start}'}}\nOUTPUT_DIR: {config_file.parent}\n")
    trained = config_file.parent / "model_final.pth"
    with pytest.raises(ValueError, match=rf"WEIGHTS {trained}, or --resume for the last check"):
        refuse_start_weights(load_config(config_file), config_file, can_resume=True)
    with pytest.raises(ValueError, match=rf"WEIGHTS {trained}\.$"):
        read_run_config(config_file)
    for weights in (start, str(trained)):
        said = ["MODEL.WEIGHTS", weights]
        refuse_start_weights(load_config(config_file, said), config_file, said)


def test_what_was_calibrated_or_evaluated_on_purpose_is_not_taken_for_a_start(
    tmp_path: Path,
) -> None:
    weights = ["MODEL.WEIGHTS", "https://models.example/whole_detector.pkl"]
    base = "custom/mask_rcnn_R_50_FPN.yaml"
    calibrated = tmp_path / "calibrated.yaml"
    unchanged = {"ROI_BOX_HEAD": {"CALIBRATION": {"METHOD": "none"}}}
    cfg = load_config(base, weights)
    write_calibrated_config(calibrated, cfg, unchanged, config_file=base, overrides=weights)
    evaluated = tmp_path / "config.yaml"
    evaluated.write_text(cfg.dump())
    with pytest.raises(ValueError, match=r"whole_detector\.pkl, which a training of it starts"):
        refuse_start_weights(load_config(evaluated), evaluated)
    results = {"schema_version": 1, "metrics": {}, "config": cfg.dump()}
    (tmp_path / "results.json").write_text(json.dumps(results))
    for path in (calibrated, evaluated):
        taken = read_run_config(path).MODEL.WEIGHTS
        assert taken == weights[1]


def test_a_command_says_before_anything_else_that_there_are_no_weights(tmp_path: Path) -> None:
    config_file = tmp_path / "detector.yaml"
    config_file.write_text("VERSION: 2\n")
    with pytest.raises(ValueError, match=r"--opts MODEL.WEIGHTS PATH at the end, but got no"):
        require_trained_weights(load_config(config_file), config_file, option="--opts")
    said = ["MODEL.WEIGHTS", "nowhere.pth"]
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth, but there is no such file; give"):
        require_trained_weights(load_config(config_file, said), config_file, said)
