"""What a detector says of every proposal, kept to try other scores without running it again.

Legend: R proposals of an image, K foreground classes, S stages of cascade heads (1 for others).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from torch import Tensor, nn

from balms_seg.modeling.classifier_init import box_predictors
from balms_seg.progress import with_progress

FILE_VERSION = 2


@dataclass(frozen=True, eq=False)
class BoxOutputs:
    """One image.

    Attributes:
        image_id: of the data set.
        probabilities: (S, R, K + 1) before any calibration, background last.
        boxes: (R, 4K) or (R, 4), in the pixels of the resized image.
        image_size: height and width of the resized image.
        output_size: height and width of the image itself.
    """

    image_id: Any
    probabilities: Tensor
    boxes: Tensor
    image_size: tuple[int, int]
    output_size: tuple[int, int]


@dataclass(frozen=True)
class DetectionRule:
    """How boxes become detections: smallest score, NMS threshold, detections an image."""

    score_threshold: float
    nms_threshold: float
    max_detections: int


@torch.no_grad()
def record_box_outputs(
    model: GeneralizedRCNN, loader: Iterable[list[dict[str, Any]]]
) -> list[BoxOutputs]:
    """Run a detector over a test loader and keep what its box predictors say.

    Args:
        model: with this package's heads; it is in evaluation mode afterwards.
        loader: as detectron2's test loaders.
    """
    model.eval()
    outputs = []
    for inputs in with_progress(loader, label="detecting", unit="batch"):
        with _recording(model) as (probabilities, boxes):
            model.inference(inputs, do_postprocess=False)
        stages = [torch.stack(parts) for parts in zip(*probabilities, strict=True)]
        for image, own, own_boxes, size in zip(inputs, stages, *boxes, strict=True):
            outputs.append(
                BoxOutputs(
                    image["image_id"],
                    own.cpu(),
                    own_boxes.cpu(),
                    tuple(size),
                    (image["height"], image["width"]),
                )
            )
    return outputs


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


def detect(
    outputs: Iterable[BoxOutputs],
    calibrate: Callable[[Tensor], Tensor] | None,
    rule: DetectionRule,
) -> list[dict[str, Any]]:
    """Detections that calibrated scores give: boxes in the LVIS results format.

    Args:
        outputs: of `record_box_outputs`.
        calibrate: (R, K + 1) to (R, K + 1), applied to each stage; None leaves the scores.
        rule: thresholds.

    Returns:
        One dict a detection; category_id is the contiguous class id.
    """
    detections: list[dict[str, Any]] = []
    for image in outputs:
        stages = [
            stage.float() if calibrate is None else calibrate(stage.float())
            for stage in image.probabilities
        ]
        scores = torch.stack(stages).mean(dim=0)
        (instances,), _ = fast_rcnn_inference(
            [image.boxes.float()],
            [scores],
            [image.image_size],
            rule.score_threshold,
            rule.nms_threshold,
            rule.max_detections,
        )
        final = detector_postprocess(instances, *image.output_size)
        detections += instances_to_coco_json(final, image.image_id)
    return detections


def save_box_outputs(path: str | Path, outputs: list[BoxOutputs], *, about: dict[str, Any]) -> None:
    """Write outputs to a file, with entries that say what they are of."""
    images = [vars(image) for image in outputs]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    torch.save({"version": FILE_VERSION, "about": about, "images": images}, path)


def load_box_outputs(path: str | Path) -> tuple[list[BoxOutputs], dict[str, Any]]:
    """Read what `save_box_outputs` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of another version.
    """
    content = torch.load(path, weights_only=True)
    if content.get("version") != FILE_VERSION:
        raise ValueError(f"{path} was written by another version; record the outputs again.")
    return [BoxOutputs(**image) for image in content["images"]], content["about"]
