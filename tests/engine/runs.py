"""Short runs of the engine in this process, as tools/train_net.py makes them."""

from __future__ import annotations

import shutil
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import torch
from detectron2.engine import default_argument_parser
from made_up_data import SMALL, words
from torch import Tensor

from balms_seg.engine import LongTailedTrainer, evaluate, setup, train
from balms_seg.model_zoo import get_config_file

Settings = Mapping[str, object]

# Of methods whose defaults are for more classes than three, or for rarer ones.
OF_METHODS: dict[str, Settings] = {
    "federated": {"MODEL.METHODS.FEDERATED.CLASSES": 2},
    "bags": {"MODEL.METHODS.BAGS.BOUNDS": (4,)},
    "droploss": {"MODEL.METHODS.DROPLOSS.THRESHOLD": 0.9},
    "gol": {"MODEL.METHODS.GOL.THRESHOLD": 0.9},
    "feature_balanced": {"MODEL.METHODS.FEATURE_BALANCED.RAMP": 0.5},
}


def arguments(settings: Settings, output: Path, *flags: str) -> Namespace:
    """The parsed command line of a run of the small model."""
    return default_argument_parser().parse_args(command_line(settings, output, *flags))


def command_line(settings: Settings, output: Path, *flags: str) -> list[str]:
    """Flags and settings of a run of the small model."""
    base = ["--config-file", get_config_file("toy/base.yaml"), "--num-gpus", "0", *flags]
    return base + words({**SMALL, **settings, "OUTPUT_DIR": str(output)})


def build_trainer(settings: Settings, output: Path, *flags: str) -> LongTailedTrainer:
    """A trainer of the small model, before it has loaded any checkpoint."""
    return LongTailedTrainer(setup(arguments(settings, output, *flags)))


def run_training(settings: Settings, output: Path, *flags: str) -> LongTailedTrainer:
    """Train the small model to the end."""
    trainer = build_trainer(settings, output, *flags)
    train(trainer, resume="--resume" in flags)
    return trainer


def run_evaluation(settings: Settings, output: Path, *flags: str) -> dict:
    """Evaluate only."""
    args = arguments(settings, output, "--eval-only", *flags)
    return evaluate(setup(args), resume=args.resume)


def copy_interrupted(run: Path, output: Path, checkpoint: str) -> None:
    """A run's folder as if the run had been interrupted after a checkpoint."""
    shutil.copytree(run, output)
    (output / "last_checkpoint").write_text(checkpoint)


def read_checkpoint(path: Path) -> dict:
    """A checkpoint's content, without its checksum, so that it can be changed and saved."""
    content = torch.load(path, map_location="cpu", weights_only=False)
    content.pop("checksum", None)
    return content


def assert_same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert different == []
