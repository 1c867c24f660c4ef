"""Training and evaluation under detectron2's engine."""

import balms_seg.needs_detectron2  # noqa: F401
from balms_seg.engine.launch import launch
from balms_seg.engine.run import evaluate, load_model, train
from balms_seg.engine.run_setup import load_config, setup
from balms_seg.engine.trainer import LongTailedTrainer

__all__ = ["LongTailedTrainer", "evaluate", "launch", "load_config", "load_model", "setup", "train"]
