"""What a detector finds under several calibrations of its scores, in one run over the images.

Legend: R proposals of an image, K foreground classes, S stages of cascade heads (1 for others).

The scores of all classes on all proposals, 23 MiB an image of LVIS with their boxes, are not kept:
every calibration is tried while they are on the device that computed them, and what stays are its
detections, 22 bytes each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import Instances
from torch import Tensor, nn

from balms_seg.evaluation.lvis.detection_table import DetectionTable, MaskColumn
from balms_seg.evaluation.lvis.ground_truth import GroundTruth
from balms_seg.modeling.classifier_init import box_predictors
from balms_seg.progress import with_progress

#: (R, K + 1) probabilities to (R, K + 1); None leaves them.
Calibrate = Callable[[Tensor], Tensor] | None


@dataclass(frozen=True)
class DetectionRule:
    """How boxes become detections: smallest score, NMS threshold, detections an image."""

    score_threshold: float
    nms_threshold: float
    max_detections: int


@torch.no_grad()
def detect_under(
    calibrations: Mapping[str, Calibrate],
    model: GeneralizedRCNN,
    loader: Iterable[list[dict[str, Any]]],
    rule: DetectionRule,
    ground_truth: GroundTruth,
) -> dict[str, DetectionTable]:
    """Run a detector over a test loader once, and let boxes compete under each calibration.

    Args:
        calibrations: by name.
        model: with this package's heads and no calibration of its own; it is in evaluation mode
            afterwards.
        loader: as detectron2's test loaders.
        rule: how boxes become detections.
        ground_truth: of the images; its classes are the model's.

    Returns:
        Boxes found under each calibration, on the images and classes of the ground truth.
    """
    model.eval()
    for calibrate in calibrations.values():
        if isinstance(calibrate, nn.Module):
            calibrate.to(model.device)
    image_index = {image_id: index for index, image_id in enumerate(ground_truth.image_ids)}
    found: dict[str, list[_Found]] = {name: [] for name in calibrations}
    for inputs in with_progress(loader, label="detecting", unit="batch"):
        for image, stages, boxes, size in _box_outputs(model, inputs):
            place = image_index[image["image_id"]]
            for name, calibrate in calibrations.items():
                instances = _compete(stages, boxes, size, calibrate, rule)
                final = detector_postprocess(instances, image["height"], image["width"])
                found[name].append(_Found.of(final, place))
    return {name: _table(parts) for name, parts in found.items()}


def _compete(
    stages: Tensor,
    boxes: Tensor,
    image_size: tuple[int, int],
    calibrate: Calibrate,
    rule: DetectionRule,
) -> Instances:
    """Detections of an image that calibrated scores give, in the pixels of the resized image."""
    scores = torch.stack([stage if calibrate is None else calibrate(stage) for stage in stages])
    (instances,), _ = fast_rcnn_inference(
        [boxes],
        [scores.mean(dim=0)],
        [image_size],
        rule.score_threshold,
        rule.nms_threshold,
        rule.max_detections,
    )
    return instances


@dataclass(frozen=True, eq=False)
class _Found:
    """Detections of an image: index of the image, and classes, scores and boxes of (n,) each."""

    image: int
    classes: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray

    @classmethod
    def of(cls, instances: Instances, image: int) -> _Found:
        boxes = instances.pred_boxes.tensor.float().cpu().numpy()
        boxes[:, 2:] -= boxes[:, :2]  # in float32, as detectron2 writes its results
        return cls(
            image,
            instances.pred_classes.cpu().numpy().astype(np.int16),
            instances.scores.float().cpu().numpy(),
            boxes,
        )


def _table(parts: Sequence[_Found]) -> DetectionTable:
    lengths = [len(part.scores) for part in parts]
    none = np.zeros(sum(lengths), np.int64)
    return DetectionTable(
        np.repeat(np.array([part.image for part in parts], np.int32), lengths),
        np.concatenate([np.zeros(0, np.int32), *(part.classes for part in parts)]),
        np.concatenate([np.zeros(0), *(part.scores for part in parts)]),
        np.concatenate([np.zeros((0, 4)), *(part.boxes for part in parts)]),
        MaskColumn(b"", none, none, np.zeros((len(none), 2), np.int32)),
    )


def _box_outputs(
    model: GeneralizedRCNN, inputs: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], Tensor, Tensor, tuple[int, int]]]:
    """Of each image: its dict, (S, R, K + 1) probabilities, boxes and the resized image's size."""
    with _recording(model) as (probabilities, boxes):
        model.inference(inputs, do_postprocess=False)
    stages = [torch.stack(parts).float() for parts in zip(*probabilities, strict=True)]
    for image, own, own_boxes, size in zip(inputs, stages, *boxes, strict=True):
        yield image, own, own_boxes.float(), tuple(size)


@contextmanager
def _recording(model: nn.Module) -> Iterator[tuple[list[tuple[Tensor, ...]], list[Any]]]:
    """Lists that fill with the probabilities of each stage, and with boxes and image sizes."""
    predictors: list[Any] = list(box_predictors(model))  # their methods are replaced for a while
    heads: Any = model.roi_heads
    has_masks, heads.mask_on = heads.mask_on, False  # masks take time and are not kept
    probabilities: list[tuple[Tensor, ...]] = []
    boxes: list[Any] = []

    def keeping_probabilities(predictor: Any) -> Callable[..., Any]:
        original = predictor.predict_probs

        def predict_probs(predictions: Any, proposals: Any) -> Any:
            raw = predictor.method.probabilities(predictions[0])
            probabilities.append(raw.split([len(p) for p in proposals]))
            return original(predictions, proposals)

        return predict_probs

    last = predictors[-1]
    original_boxes = last.predict_boxes

    def predict_boxes(predictions: Any, proposals: Any) -> Any:
        found = original_boxes(predictions, proposals)
        boxes[:] = [found, [p.image_size for p in proposals]]
        return found

    for predictor in predictors:
        predictor.predict_probs = keeping_probabilities(predictor)
    last.predict_boxes = predict_boxes
    try:
        yield probabilities, boxes
    finally:
        heads.mask_on = has_masks
        del last.predict_boxes
        for predictor in predictors:
            del predictor.predict_probs
