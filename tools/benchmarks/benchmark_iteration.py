"""`benchmark.py iteration`: a training step beside one of detectron2's own head."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from benchmark_timing import Row, measure_alternately


def benchmark_iteration(arguments: argparse.Namespace) -> list[Row]:
    """A training step with each of our box classifiers against detectron2's own softmax head."""
    from detectron2.utils.events import EventStorage

    rows = []
    with EventStorage(0):
        for name in arguments.methods:
            reference = _training_step(arguments, None)
            ours = _training_step(arguments, name)
            theirs_s, ours_s = measure_alternately(
                reference, ours, repetitions=arguments.repetitions, clock=arguments.clock
            )
            ratios = [mine / other for mine, other in zip(ours_s, theirs_s, strict=True)]
            rows.append(
                {
                    "classifier": name,
                    "reference": "detectron2 StandardROIHeads",
                    "classes": arguments.classes,
                    "image": list(arguments.size),
                    "reference_s": statistics.median(theirs_s),
                    "ours_s": statistics.median(ours_s),
                    "ratio": statistics.median(ours_s) / statistics.median(theirs_s),
                    "median_paired_ratio": statistics.median(ratios),
                }
            )
    return rows


def _training_step(arguments: argparse.Namespace, method: str | None) -> Callable[[], None]:
    """Forward, backward and SGD on one made-up batch; `method` None is detectron2's own head."""
    from detectron2.modeling import build_model

    from balms_seg import ClassStatistics
    from balms_seg.engine import load_config
    from balms_seg.model_zoo import get_config_file
    from balms_seg.modeling import replace_box_classifier

    cfg = load_config(get_config_file(arguments.config))
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "", arguments.device
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = arguments.classes
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER = "StandardROIHeads", ""
    torch.manual_seed(0)
    model = build_model(cfg).train()
    if method:
        labels = torch.arange(arguments.classes).repeat(3)
        statistics_ = ClassStatistics.from_labels(labels.numpy(), arguments.classes)
        replace_box_classifier(model, method, statistics_)
    propose_anchors(model)
    # Without learning: a network from scratch with frozen normalisation would diverge.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    batch = made_up_batch(arguments.batch, arguments.size, arguments.classes)

    def step() -> None:
        torch.manual_seed(1)  # the same proposals on both sides
        loss = sum(model(batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if arguments.device.startswith("cuda"):
            torch.cuda.synchronize()

    return step


def propose_anchors(model: torch.nn.Module) -> None:
    """Let an untrained detector sample as many proposals as a trained one, in place.

    The deltas of an untrained RPN send all anchors to the same few boxes; without deltas the
    proposals are the anchors themselves.
    """
    with torch.no_grad():
        model.proposal_generator.rpn_head.anchor_deltas.weight.zero_()


def made_up_batch(
    num_images: int, size_px: Sequence[int], num_classes: int, *, seed: int = 0
) -> list[dict[str, Any]]:
    """Noise of (height, width) `size_px`, ten objects an image, as a training loader gives it."""
    from detectron2.structures import BitMasks, Boxes, Instances

    generator = torch.Generator().manual_seed(seed)
    height, width = size_px
    batch = []
    for position in range(num_images):
        corners = torch.rand(10, 2, generator=generator) * torch.tensor([width, height]) * 0.7
        sides = torch.rand(10, 2, generator=generator) * torch.tensor([width, height]) * 0.2 + 8
        boxes = torch.cat([corners, corners + sides], dim=1)
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(boxes)
        instances.gt_classes = torch.randint(0, num_classes, (10,), generator=generator)
        masks = torch.zeros(10, height, width, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        instances.gt_masks = BitMasks(masks)
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        sample = {"image": image, "instances": instances, "height": height, "width": width}
        batch.append({**sample, "stream_position": position})
    return batch


def add_iteration_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `iteration`."""
    methods = ["softmax", "balanced_softmax", "sigmoid", "balanced_sigmoid"]
    parser.add_argument("--config", default="lvis_v1/softmax_mask_rcnn_R_50_FPN_1x.yaml")
    parser.add_argument("--methods", nargs="+", default=methods)
    parser.add_argument("--classes", type=int, default=1203)
    parser.add_argument("--size", type=int, nargs=2, default=[256, 320], metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: busy machine"
    )
