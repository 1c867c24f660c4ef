"""A run's own config.yaml does not bring back the weights that the run started from."""

from pathlib import Path

import pytest

from balms_seg.engine import load_config
from balms_seg.engine.required_weights import refuse_start_weights, require_trained_weights
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
