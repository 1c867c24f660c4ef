"""`benchmark.py meta`: what the meta step costs, in time and in memory.

Real models on made-up batches that are in memory already, so that data loading plays no part.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from benchmark_iteration import made_up_batch, propose_anchors
from benchmark_meta_reference import ReferenceScheme
from benchmark_timing import Row, measure_alternately, peak_memory_mb

DECOUPLED, LOADER, BANK = "decoupled", "BALMS, loader", "BALMS, feature bank"
REFERENCE = "the release's scheme (torch.func)"
SCHEMES = (DECOUPLED, LOADER, BANK, REFERENCE)
# (numerator, denominator) of each ratio
PAIRS = ((LOADER, DECOUPLED), (BANK, DECOUPLED), (REFERENCE, LOADER), (REFERENCE, BANK))
_NUM_BATCHES = 8  # that take turns
_META_SEED = 1


class MadeUpLoader:
    """Batches that take turns, in place of a training or a meta loader."""

    def __init__(self, arguments: argparse.Namespace, *, seed: int) -> None:
        """Make the batches; images are noise, the same for all, their classes are not."""
        self.seed = seed
        self.batches = [
            made_up_batch(
                arguments.batch, arguments.size, arguments.classes, seed=_NUM_BATCHES * seed + i
            )
            for i in range(_NUM_BATCHES)
        ]

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        """Endless."""
        return itertools.cycle(self.batches)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: no run is continued."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


def build_step(scheme: str, arguments: argparse.Namespace) -> Callable[[], None]:
    """One training iteration of a scheme, on a model of its own."""
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage

    from balms_seg import ClassStatistics
    from balms_seg.engine import load_config
    from balms_seg.engine.classifier_step import ClassifierStep
    from balms_seg.model_zoo import get_config_file
    from balms_seg.modeling import replace_box_classifier
    from balms_seg.modeling.box_rows import CLASSIFIER
    from balms_seg.modeling.freeze import train_only

    cfg = load_config(get_config_file(arguments.config))
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "", arguments.device
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = arguments.classes
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = arguments.rows
    cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER, cfg.DATASETS.TRAIN = "balanced_sigmoid", ()
    torch.manual_seed(0)
    model = build_model(cfg).train()
    labels = torch.arange(arguments.classes).repeat(3)
    statistics_ = ClassStatistics.from_labels(labels.numpy(), arguments.classes)
    replace_box_classifier(model, "balanced_sigmoid", statistics_)
    propose_anchors(model)
    train_only(model, [CLASSIFIER])
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.001, momentum=0.9, weight_decay=1e-4)
    loader = MadeUpLoader(arguments, seed=0)
    meta_loader = MadeUpLoader(arguments, seed=_META_SEED)
    if scheme == REFERENCE:
        step = ReferenceScheme(
            model,
            optimizer,
            batches=iter(loader),
            meta_batches=iter(meta_loader),
            seeds=(loader.seed, meta_loader.seed),
        )
    else:
        meta = build_meta_step(scheme, model, optimizer, meta_loader, arguments)
        step = ClassifierStep(model, loader, optimizer, seed=loader.seed, meta=meta)
        step.iter = 0

    def run() -> None:
        with EventStorage(0):
            step.run_step()
        if arguments.device.startswith("cuda"):
            torch.cuda.synchronize()

    return run


def build_meta_step(
    scheme: str,
    model: torch.nn.Module,
    optimizer: torch.optim.SGD,
    meta_loader: MadeUpLoader,
    arguments: argparse.Namespace,
) -> Any:
    """The meta step as released (meta loss on shifted logits), or None where there is none."""
    from balms_seg.engine.meta.class_learners import LearnedWeights
    from balms_seg.engine.meta.meta_batches import BankedBatches, LoadedBatches
    from balms_seg.engine.meta.meta_step import MetaStep
    from balms_seg.meta import AdamSettings, FeatureBank, MetaReweighter
    from balms_seg.modeling.box_rows import box_classifier_view

    if scheme == DECOUPLED:
        return None
    predictor, heads = model.roi_heads.box_predictor, model.roi_heads
    if scheme == BANK:
        num_classes, num_features = predictor.num_classes, predictor.cls_score.in_features
        num_rows = arguments.batch * heads.batch_size_per_image
        num_foreground = round(num_rows * heads.positive_fraction)
        batches = BankedBatches(
            FeatureBank(num_classes, num_features, device=model.device),
            num_foreground=num_foreground,
            num_background=num_rows - num_foreground,
            seed=meta_loader.seed,
            device=model.device,
        )
    else:
        everything = torch.ones(predictor.num_classes, dtype=torch.bool)
        batches = LoadedBatches(meta_loader, everything)
    adam = AdamSettings(lr=0.01, betas=(0.9, 0.999), weight_decay=0.0)
    reweighter = MetaReweighter(predictor.num_classes, adam, normalise="global")
    return MetaStep(
        LearnedWeights(reweighter.to(model.device)),
        batches,
        classifier=box_classifier_view(model),
        optimizer=optimizer,
        objective="balanced",
        period=1,
    )


def benchmark_meta(arguments: argparse.Namespace) -> Iterator[Row]:
    """Iterations with a meta step against decoupled ones and against the release's scheme."""
    peaks = {}
    for size in arguments.sizes:  # first: a process starts with the peak of the one that made it
        arguments.size = size
        peaks[size] = {
            scheme: peak_memory_mb(build_step, scheme, arguments, calls=2) for scheme in SCHEMES
        }
    for size in arguments.sizes:
        arguments.size = size
        steps = {scheme: build_step(scheme, arguments) for scheme in SCHEMES}
        for above, below in PAIRS:
            reference, ours = measure_alternately(
                steps[below],
                steps[above],
                repetitions=arguments.repetitions,
                clock=arguments.clock,
            )
            ratios = [a / b for a, b in zip(ours, reference, strict=True)]
            yield {
                "scheme": above,
                "over": below,
                "image": list(size),
                "seconds": statistics.median(ours),
                "over_seconds": statistics.median(reference),
                "ratio": statistics.median(ours) / statistics.median(reference),
                "median_paired_ratio": statistics.median(ratios),
                "peak_mb": peaks[size][above],
                "over_peak_mb": peaks[size][below],
            }


def add_meta_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `meta`."""
    parser.add_argument("--config", default="lvis_v1/softmax_mask_rcnn_R_50_FPN_1x.yaml")
    parser.add_argument("--classes", type=int, default=1203)
    parser.add_argument(
        "--sizes", type=_size, nargs="+", default=[(256, 320), (800, 1216)], metavar="HxW"
    )
    parser.add_argument("--batch", type=int, default=2, help="images")
    parser.add_argument("--rows", type=int, default=512, help="sampled proposals an image")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: busy machine"
    )


def _size(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height), int(width)
