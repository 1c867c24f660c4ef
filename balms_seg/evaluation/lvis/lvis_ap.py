"""LVIS average precision under its federated rules, equal to lvis-api, in numpy.

Symbols: K classes, A area ranges, T IoU thresholds, R recall levels.

Source: Gupta, Dollar, Girshick 2019 (arXiv 1908.03195); results equal lvis-api 0.5.3's LVISEval.
One deviation: an annotation whose id is 0 counts as any other (lvis-api takes it for unmatched).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from balms_seg.evaluation.lvis.boundaries import limit_by_boundaries
from balms_seg.evaluation.lvis.detection_table import DetectionTable
from balms_seg.evaluation.lvis.detections import Detections, select_detections
from balms_seg.evaluation.lvis.ground_truth import (
    FREQUENCY_GROUPS,
    LVIS_MAX_DETECTIONS,
    GroundTruth,
    load_ground_truth,
)
from balms_seg.evaluation.lvis.lvis_backend import precision_recall_of_lvis_api
from balms_seg.evaluation.lvis.masks import annotation_masks
from balms_seg.evaluation.lvis.matching import IOU_THRESHOLDS, Matches, match_detections
from balms_seg.evaluation.lvis.overlaps import Overlaps, find_overlaps
from balms_seg.evaluation.lvis.precision_recall import precision_recall

BACKENDS = ("numpy", "lvis")
IOU_TYPES = ("bbox", "segm", "boundary")
TELLING_AP = 0.01  # below it a model finds next to nothing, and its mistakes tell nothing
_AREA_SUFFIXES = ("", "s", "m", "l")


@dataclass(frozen=True, eq=False)
class LVISResult:
    """Average precision and recall of one task, as fractions; nan where there is no ground truth.

    Attributes:
        iou_type: "bbox", "segm" or "boundary".
        metrics: AP, AP50, AP75, APs, APm, APl, APr, APc, APf, AR, ARs, ARm, ARl, ARr, ARc, ARf:
            means over the classes that have ground truth.
        group_sizes: per group name, `classes` in the data set and those `with_ground_truth` in
            this evaluation set; "unknown" stands for classes without a group.
        category_ids: (K,) ids of the json, ascending; the order of all per-class values.
        class_names: (K,) names.
        frequency: (K,) "r", "c", "f" or "".
        num_instances: (K,) annotations in the evaluation set.
        class_ap: (K,) AP over all thresholds.
        class_ap50: (K,) AP at IoU 0.5.
        class_ar: (K,) recall, mean over thresholds.
        precision: (T, R, K, A) interpolated precision.
        recall: (T, K, A) largest recall.
    """

    iou_type: str
    metrics: dict[str, float]
    group_sizes: dict[str, dict[str, int]]
    category_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    frequency: tuple[str, ...]
    num_instances: np.ndarray
    class_ap: np.ndarray
    class_ap50: np.ndarray
    class_ar: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


def evaluate_lvis(
    ground_truth: GroundTruth | str | Path | Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]] | DetectionTable,
    iou_type: str,
    *,
    max_detections: int | None = LVIS_MAX_DETECTIONS,
    class_frequency: Mapping[int, str] | None = None,
    backend: str = "numpy",
) -> LVISResult:
    """Evaluate detections by LVIS's rules.

    Args:
        ground_truth: a loaded `GroundTruth`, or the path or content of an LVIS- or COCO-style
            json, read by `load_ground_truth`.
        detections: dicts with image_id, category_id (both as in the json), score and, by task,
            bbox (x, y, width, height in pixels) or segmentation (RLE of the image's size).
        iou_type: "bbox", "segm" or "boundary" (masks by boundary IoU); sizes follow the box's or
            the mask's area.
        max_detections: kept per image, by score, before any other rule; None keeps all.
        class_frequency: "r", "c" or "f" per category id for classes without a `frequency` field.
        backend: "numpy", or "lvis" to run lvis-api, slowly, where it is installed; both give the
            same numbers.

    Returns:
        Metrics over classes with ground truth. Without detections they are 0, not nan.

    Raises:
        FileNotFoundError: there is no such json.
        ValueError: an argument, the ground truth or a detection is malformed.
    """
    if backend not in BACKENDS:
        raise ValueError(f"Expected backend 'numpy' or 'lvis', but got {backend!r}.")
    if not isinstance(ground_truth, GroundTruth):
        ground_truth = load_ground_truth(ground_truth, class_frequency=class_frequency)
    check_arguments(iou_type, max_detections)
    ground_truth = ground_truth.for_task(iou_type)
    if backend == "lvis":
        if iou_type == "boundary":
            raise ValueError("lvis-api has no boundary AP; use backend 'numpy'.")
        if isinstance(detections, DetectionTable):
            chosen = detections.take(np.flatnonzero(detections.has_shape(iou_type)))
            detections = list(chosen.as_dicts(ground_truth))
        tables = precision_recall_of_lvis_api(
            ground_truth, detections, iou_type, max_detections=max_detections
        )
        return summarise(ground_truth, iou_type, *tables)
    matches = find_matches(ground_truth, detections, iou_type, max_detections=max_detections)
    return summarise(ground_truth, iou_type, *precision_recall(matches))


def find_matches(
    ground_truth: GroundTruth,
    detections: Sequence[Mapping[str, Any]] | DetectionTable,
    iou_type: str,
    *,
    max_detections: int | None = LVIS_MAX_DETECTIONS,
    max_per_class: int | None = None,
) -> Matches:
    """Match detections to ground truth; arguments and errors as in `evaluate_lvis`.

    The ground truth is what `GroundTruth.for_task` gives, since matches count its annotations.
    `max_per_class` limits the detections of a class over all images; None sets no limit.
    """
    check_arguments(iou_type, max_detections, max_per_class)
    selected = select_detections(
        detections,
        ground_truth,
        iou_type,
        max_detections=max_detections,
        max_per_class=max_per_class,
    )
    overlaps = overlaps_to_match(
        ground_truth, selected, annotation_shapes(ground_truth, iou_type), iou_type
    )
    return match_detections(ground_truth, selected, overlaps)


def overlaps_to_match(
    ground_truth: GroundTruth,
    detections: Detections,
    shapes: Any,
    iou_type: str,
    *,
    known: Overlaps | None = None,
) -> Overlaps:
    """Pairs of one image and class that reach the lowest threshold.

    Args:
        ground_truth: what `GroundTruth.for_task` gives.
        detections: n of them.
        shapes: of its annotations, as `annotation_shapes` gives them.
        iou_type: "bbox", "segm" or "boundary".
        known: pairs of an image, whatever their classes, from a threshold below on; they are taken
            from there, unless crowd regions ask for another IoU. None: not known.
    """
    threshold, is_crowd = IOU_THRESHOLDS[0], ground_truth.is_crowd
    # By image first: masks of an image lie close together in memory.
    keys = ground_truth.images * ground_truth.num_classes + ground_truth.classes
    if known is None or is_crowd.any():
        own_keys = detections.images * ground_truth.num_classes + detections.classes
        overlaps = find_overlaps(
            detections, keys, shapes, own_keys, threshold=threshold, is_crowd=is_crowd
        )
    else:
        is_own = ground_truth.classes[known.columns] == detections.classes[known.rows]
        overlaps = known.take(np.flatnonzero(is_own & (known.ious >= threshold)))
    if iou_type == "boundary":
        overlaps = limit_by_boundaries(
            overlaps, detections, shapes, keys, threshold=threshold, is_crowd=is_crowd
        )
    return overlaps


def check_arguments(iou_type: str, *limits: int | None) -> None:
    """Raise ValueError for an unknown task or a limit of no detections."""
    if iou_type not in IOU_TYPES:
        raise ValueError(f"Expected iou_type among {IOU_TYPES}, but got {iou_type!r}.")
    for limit in limits:
        if limit is not None and limit < 1:
            raise ValueError(f"Expected a limit of at least 1 detection, but got {limit}.")


def annotation_shapes(ground_truth: GroundTruth, iou_type: str) -> Any:
    """Boxes (n, 4), or n compressed RLEs, of what `GroundTruth.for_task` gives."""
    if iou_type == "bbox":
        return ground_truth.boxes
    sizes = ground_truth.image_sizes
    return annotation_masks(
        ground_truth.segmentations, [sizes[image] for image in ground_truth.images.tolist()]
    )


def summarise(
    ground_truth: GroundTruth, iou_type: str, precision: np.ndarray, recall: np.ndarray
) -> LVISResult:
    """Take means over thresholds, recall levels, classes and groups."""
    class_ap = precision.mean(axis=(0, 1))  # (K, A)
    class_ar = recall.mean(axis=0)  # (K, A)
    class_ap50 = precision[0, :, :, 0].mean(axis=0)
    class_ap75 = precision[5, :, :, 0].mean(axis=0)
    frequency = np.array(ground_truth.frequency)
    metrics = {
        "AP": _mean(class_ap[:, 0]),
        "AP50": _mean(class_ap50),
        "AP75": _mean(class_ap75),
    }
    for area, suffix in enumerate(_AREA_SUFFIXES[1:], start=1):
        metrics[f"AP{suffix}"] = _mean(class_ap[:, area])
    for letter in FREQUENCY_GROUPS:
        metrics[f"AP{letter}"] = _mean(class_ap[frequency == letter, 0])
    for area, suffix in enumerate(_AREA_SUFFIXES):
        metrics[f"AR{suffix}"] = _mean(class_ar[:, area])
    for letter in FREQUENCY_GROUPS:
        metrics[f"AR{letter}"] = _mean(class_ar[frequency == letter, 0])
    has_ground_truth = ~np.isnan(class_ap[:, 0])
    letters = dict(FREQUENCY_GROUPS) | ({"": "unknown"} if "" in frequency else {})
    return LVISResult(
        iou_type=iou_type,
        metrics=metrics,
        group_sizes={
            name: {
                "classes": int((frequency == letter).sum()),
                "with_ground_truth": int(has_ground_truth[frequency == letter].sum()),
            }
            for letter, name in letters.items()
        },
        category_ids=ground_truth.category_ids,
        class_names=ground_truth.class_names,
        frequency=ground_truth.frequency,
        num_instances=ground_truth.instance_counts(),
        class_ap=class_ap[:, 0],
        class_ap50=class_ap50,
        class_ar=class_ar[:, 0],
        precision=precision,
        recall=recall,
    )


def _mean(values: np.ndarray) -> float:
    """Mean over the classes that have ground truth; nan where none has."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")
