"""Short runs of the image classifier in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from detectron2.engine import default_argument_parser
from image_sets import SMALL
from made_up_data import words

from balms_seg.config.meta_learning import META_SAMPLER
from balms_seg.engine import LongTailedTrainer, evaluate, setup, train
from balms_seg.engine.run_data import DataSets
from balms_seg.model_zoo import get_config_file
from balms_seg.sampling import ESTIMATORS

Settings = Mapping[str, object]

# Runs with a meta step.
META = {
    "MODEL.TRAIN_ONLY": ["classifier"],
    "MODEL.FROZEN_NORM": "train",
    "MODEL.IMAGE_CLASSIFIER.METHOD": "balanced_softmax",
    "DATASETS.TEST": (),
    "SOLVER.MAX_ITER": 4,
    "META.SOURCE": "loader",
    "META.LR": 0.1,
    "META.BLOCK": 4,
    "META.LOOKAHEAD": 0,
}
WEIGHTS = {**META, "META.LEARN": "weights"}
RATES = {**META, "DATALOADER.SAMPLER_TRAIN": META_SAMPLER}
BANK = {"META.SOURCE": "feature_bank", "MODEL.FROZEN_NORM": "eval"}
META_RUNS: dict[str, Settings] = {
    "weights": WEIGHTS,
    "weights_bank": {**WEIGHTS, **BANK},
    **{name: {**RATES, "META.ESTIMATOR": name} for name in ESTIMATORS},
    "rates_bank": {**RATES, **BANK},
}


def build_image_trainer(settings: Settings, output: Path, *flags: str) -> LongTailedTrainer:
    """A trainer of the small classifier, before it has loaded any checkpoint."""
    sets = DataSets()
    return LongTailedTrainer(setup(_arguments(settings, output, *flags), sets), sets)


def run_image_training(settings: Settings, output: Path, *flags: str) -> LongTailedTrainer:
    """Train the small classifier to the end."""
    trainer = build_image_trainer(settings, output, *flags)
    train(trainer, resume="--resume" in flags)
    return trainer


def run_image_evaluation(settings: Settings, output: Path, *flags: str) -> dict:
    """Evaluate only."""
    args, sets = _arguments(settings, output, "--eval-only", *flags), DataSets()
    return evaluate(setup(args, sets), sets, resume=args.resume)


def _arguments(settings: Settings, output: Path, *flags: str) -> object:
    base = get_config_file("classification/base.yaml")
    command = ["--config-file", base, "--num-gpus", "0", *flags]
    command += words({**SMALL, **settings, "OUTPUT_DIR": str(output)})
    return default_argument_parser().parse_args(command)
