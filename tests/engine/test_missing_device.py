"""A GPU that is asked for and not there is said to be missing, by every command with a model."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_data import small_config

from balms_seg.commands.command_line import run_command
from balms_seg.engine.device import choose_device

MISSING = r"^{}: --num-gpus is 1 but CUDA is not available; use --num-gpus 0 for the CPU, or check"


@pytest.fixture(autouse=True)
def _without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_the_cpu_serves_where_it_is_asked_for_or_will_do(device: str) -> None:
    for settings in ({"num_gpus": 0}, {"num_gpus": 1, "falls_back": True}):
        cfg = small_config({"MODEL.DEVICE": device})
        choose_device(cfg, **settings)
        assert cfg.MODEL.DEVICE == "cpu"
    with pytest.raises(RuntimeError, match="CUDA is not available"):
        choose_device(small_config({"MODEL.DEVICE": device}), num_gpus=1)


def test_a_configuration_of_the_cpu_needs_no_flag() -> None:
    cfg = small_config({"MODEL.DEVICE": "cpu"})
    choose_device(cfg, num_gpus=1)
    assert cfg.MODEL.DEVICE == "cpu"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("features", "--config-file custom/image_trunk.yaml --output o"),
        ("calibrate", "--config-file toy/base.yaml --dataset d MODEL.WEIGHTS model.pth"),
        (
            "demo",
            "--config-file toy/base.yaml --input a.png --output o --opts MODEL.WEIGHTS model.pth",
        ),
    ],
)
def test_commands_say_that_the_gpu_is_missing(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.pth").write_bytes(b"")
    with pytest.raises(SystemExit, match=MISSING.format(name)):
        run_command(name, [*words.split(), "MODEL.DEVICE", "cuda"])
