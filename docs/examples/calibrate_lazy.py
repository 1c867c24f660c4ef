"""Calibrate a checkpoint of a Python configuration, such as detectron2's ViTDet for LVIS.

    python docs/examples/calibrate_lazy.py vitdet.py model.pkl train.json held_out.json images

Nothing is trained. The held-out images are a part of the training data (`balms-seg split`) that
the checkpoint has not seen; train.json gives the class counts. A configuration is code and is run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from torch import nn

from balms_seg import ClassStatistics
from balms_seg.annotations import read_annotations
from balms_seg.data import register_long_tailed_instances
from balms_seg.engine.tuning.calibration_run import format_results
from balms_seg.engine.tuning.calibration_search import HeldOut, choose, plain_trial, trials_of
from balms_seg.engine.tuning.search_space import STRENGTHS
from balms_seg.engine.tuning.trial_detections import DetectionRule, detect_under
from balms_seg.evaluation import load_ground_truth
from balms_seg.modeling import replace_box_classifier
from balms_seg.modeling.classifier_init import box_predictors


def with_our_classifier(model: nn.Module, statistics: ClassStatistics) -> nn.Module:
    """The same scores, from a classifier that takes a calibration."""
    has_sigmoids = getattr(box_predictors(model)[0], "use_sigmoid_ce", False)
    method = "sigmoid" if has_sigmoids else "softmax"
    return replace_box_classifier(model, method, statistics)


def calibrate(words: list[str] | None = None) -> nn.Module:
    """The model with the constant that held-out images prove, or with its scores as they are."""
    parser = argparse.ArgumentParser()
    for name in ("config", "weights", "train", "held_out", "images"):
        parser.add_argument(name)
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="key=value")
    args = parser.parse_args(words)

    cfg = LazyConfig.apply_overrides(LazyConfig.load(args.config), args.opts)
    statistics = ClassStatistics.from_json(args.train)
    model = instantiate(cfg.model).to("cuda" if torch.cuda.is_available() else "cpu")
    DetectionCheckpointer(model).load(args.weights)
    stages = box_predictors(with_our_classifier(model, statistics))

    name = str(Path(args.held_out).resolve())
    register_long_tailed_instances(name, args.held_out, args.images)
    cfg.dataloader.test.dataset.names = name
    annotations = read_annotations(args.held_out)
    groups = [statistics.group_names[group][0] for group in statistics.group_ids]
    first = stages[0]
    held_out = HeldOut(
        load_ground_truth(
            annotations,
            class_frequency=dict(zip(annotations.contiguous_ids, groups, strict=True)),
        ),
        statistics,
        DetectionRule(first.test_score_thresh, first.test_nms_thresh, first.test_topk_per_image),
        independent=first.method.independent_scores,
    )
    trials = [plain_trial()]
    for method in ("norcal", "logit_adjustment"):
        trials += trials_of(held_out, method, STRENGTHS[method])
    found = detect_under(
        {trial.name: trial.calibrate for trial in trials},
        model,
        instantiate(cfg.dataloader.test),
        held_out.rule,
        held_out.ground_truth,
    )
    results = [held_out.measure(trial, found[trial.name]) for trial in trials]
    choice = choose(results, "AP").trial
    print(f"{format_results(results, 'AP')}\n\nChosen: {choice.name}")
    for stage in stages:
        stage.calibration = choice.calibrate  # what the model predicts has it from here on
    return model


if __name__ == "__main__":
    calibrate()
