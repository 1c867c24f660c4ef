"""The command in a configuration's header is run up to the built model."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from balms_seg.commands import train
from balms_seg.engine import LongTailedTrainer, load_config, setup

ROOT = Path(__file__).resolve().parents[2] / "configs"
RUNNABLE = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.rglob("*.yaml")
    if re.match("# (python tools/train_net.py|balms-seg train) ", path.read_text())
)
# One of each way to start; all others in the slow tests.
KINDS = [
    "classification/cifar10_lt/post_hoc_logit_adjustment_rho100.yaml",
    "classification/cifar10_lt_cpu/tau_norm_rho100.yaml",
    "classification/cifar10_lt/crt_rho100.yaml",
    "custom/mask_rcnn_R_50_FPN.yaml",
    "lvis_v0.5/balms_reweighter_mask_rcnn_R_50_FPN.yaml",
]


def header_command(name: str) -> list[str]:
    """Words of the command, with this checkout's file and without a GPU."""
    lines = (ROOT / name).read_text().splitlines()
    text = lines[0].removeprefix("# ")
    for line in lines[1:]:
        if not text.endswith("\\"):
            break
        text = text[:-1] + line.removeprefix("#")
    words = shlex.split(re.sub("^(python tools/train_net.py|balms-seg train)", "train", text))
    words[words.index("--config-file") + 1] = str(ROOT / name)
    words[words.index("--num-gpus") + 1] = "0"
    return words


def forget_sets() -> None:
    """Each command registers its sets anew, some under one name: toy data, or the user's own."""
    for name in DatasetCatalog.list():
        if name.startswith(("glyphs_", "my_")):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def check_header_command(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    forget_sets()
    # Asks compilers for their versions, which takes longer than all else.
    monkeypatch.setattr("detectron2.engine.defaults.collect_env_info", lambda: "")
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    words = header_command(name)
    weights = load_config(ROOT / name).MODEL.WEIGHTS
    if weights and "://" not in weights:  # what the stage before writes
        (folder / weights).parent.mkdir(parents=True)
        torch.save({"model": {}}, folder / weights)
    cfg = setup(parser.parse_args(words[1:])).clone()
    cfg.defrost()
    cfg.MODEL.DEVICE, cfg.MODEL.IMAGE_CLASSIFIER.PRETRAINED = "meta", False  # no download
    cfg.DATASETS.TRAIN = ()
    if cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES == 0:
        cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES = 3  # what the absent photographs would say
    cfg.MODEL.IMAGE_CLASSIFIER.NUM_FEATURES = 4
    with torch.device("meta"):
        model = LongTailedTrainer.build_model(cfg)
    assert sum(1 for _ in model.parameters()) > 0


@pytest.mark.parametrize("name", KINDS)
def test_the_command_of_one_of_each_kind_starts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_header_command(name, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RUNNABLE if name not in KINDS])
def test_the_command_of_every_header_starts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_header_command(name, tmp_path, monkeypatch)
