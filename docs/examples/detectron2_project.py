"""The training script of a detectron2 project, which the examples beside it configure.

`# balms_seg` marks what it has of this package; the rest is detectron2's `DefaultTrainer`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from detectron2.config import CfgNode, get_cfg
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultTrainer
from torch import nn

from balms_seg import ClassStatistics, add_balms_config, check_config  # balms_seg
from balms_seg.modeling import prepare_model  # balms_seg


def train(
    configure: Callable[[CfgNode, int], None],
    words: list[str] | None = None,
    change_model: Callable[[nn.Module, ClassStatistics], nn.Module] = prepare_model,
) -> DefaultTrainer:
    """Train on a COCO json.

    Args:
        configure: makes the project's configuration out of detectron2's, for so many classes.
        words: of the command line.
        change_model: gives the built model what it needs of the training set.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("annotations", help="json in COCO's or LVIS's form")
    parser.add_argument("images", help="folder of the images")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    args = parser.parse_args(words)

    register_coco_instances("my_train", {}, args.annotations, args.images)
    statistics = ClassStatistics.from_json(args.annotations)  # balms_seg

    cfg = get_cfg()
    add_balms_config(cfg)  # balms_seg: before its keys are used
    configure(cfg, statistics.num_classes)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("my_train",), ()
    cfg.merge_from_list(args.opts)
    check_config(cfg)  # balms_seg: names what contradicts itself

    class Trainer(DefaultTrainer):
        @classmethod
        def build_model(cls, cfg: CfgNode) -> nn.Module:
            return change_model(super().build_model(cfg), statistics)  # balms_seg

    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer
