"""A run's own config.yaml does not bring back the weights that the run started from."""

from pathlib import Path

import pytest

from balms_seg.engine import load_config
from balms_seg.engine.required_weights import (
    refuse_start_weights,
    require_trained_weights,
    require_weights,
)
from balms_seg.engine.run_config import read_run_config


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
        require_weights(cfg, resume=False, eval_only=False, is_named=bool(words), num_gpus=8)
    assert f"{command}.yaml --num-gpus 8{added} or give the path" in str(error.value)


def test_an_evaluation_s_folder_has_no_checkpoints(config_file: Path) -> None:
    for path in [*config_file.parent.glob("*.pth"), config_file.parent / "last_checkpoint"]:
        path.unlink()
    refuse_start_weights(load_config(config_file), config_file)


def test_a_command_says_before_anything_else_that_there_are_no_weights(tmp_path: Path) -> None:
    config_file = tmp_path / "detector.yaml"
    config_file.write_text("VERSION: 2\n")
    with pytest.raises(ValueError, match=r"--opts MODEL.WEIGHTS PATH at the end, but got no"):
        require_trained_weights(load_config(config_file), config_file, option="--opts")
    said = ["MODEL.WEIGHTS", "nowhere.pth"]
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth, but there is no such file; give"):
        require_trained_weights(load_config(config_file, said), config_file, said)
