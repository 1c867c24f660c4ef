"""LVIS average precision under its federated rules, equal to lvis-api, in numpy.

Symbols: n detections, G annotations of one (image, class), K classes, A area ranges,
T IoU thresholds, R recall levels.

Source: Gupta, Dollar, Girshick 2019 (arXiv 1908.03195); results equal lvis-api 0.5.3's LVISEval.
One deviation: an annotation whose id is 0 counts as any other (lvis-api takes it for unmatched).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

from .detections import Detections, select_detections
from .ground_truth import FREQUENCY_GROUPS, GroundTruth, load_ground_truth
from .masks import segmentation_to_rle

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
#: Inclusive bounds in square pixels: all, small, medium, large.
AREA_RANGES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])
_AREA_SUFFIXES = ("", "s", "m", "l")


@dataclass(frozen=True, eq=False)
class LVISResult:
    """Average precision and recall of one task, as fractions; nan where there is no ground truth.

    Attributes:
        iou_type: "bbox" or "segm".
        metrics: AP, AP50, AP75, APs, APm, APl, APr, APc, APf, AR, ARs, ARm, ARl: means over the
            classes that have ground truth.
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
    detections: Sequence[Mapping[str, Any]],
    iou_type: str,
    *,
    max_detections: int = 300,
    class_frequency: Mapping[int, str] | None = None,
) -> LVISResult:
    """Evaluate detections by LVIS's rules.

    Args:
        ground_truth: a loaded `GroundTruth`, or the path or content of an LVIS- or COCO-style
            json, read by `load_ground_truth`.
        detections: dicts with image_id, category_id (both as in the json), score and, by task,
            bbox (x, y, width, height in pixels) or segmentation (RLE of the image's size).
        iou_type: "bbox" or "segm"; sizes follow the box's or the mask's area.
        max_detections: kept per image, by score, before any other rule.
        class_frequency: "r", "c" or "f" per category id for classes without a `frequency` field.

    Returns:
        Metrics over classes with ground truth. Without detections they are 0, not nan.

    Raises:
        FileNotFoundError: there is no such json.
        ValueError: an argument, the ground truth or a detection is malformed.
    """
    if iou_type not in ("bbox", "segm"):
        raise ValueError(f"Expected iou_type 'bbox' or 'segm', but got {iou_type!r}.")
    if max_detections < 1:
        raise ValueError(f"Expected max_detections of at least 1, but got {max_detections}.")
    if not isinstance(ground_truth, GroundTruth):
        ground_truth = load_ground_truth(ground_truth, class_frequency=class_frequency)
    selected = select_detections(detections, ground_truth, iou_type, max_detections=max_detections)
    is_matched, is_ignored = _match(
        ground_truth, selected, _annotation_shapes(ground_truth, iou_type)
    )
    precision, recall = _accumulate(ground_truth, selected, is_matched, is_ignored)
    return _summarise(ground_truth, iou_type, precision, recall)


def _annotation_shapes(ground_truth: GroundTruth, iou_type: str) -> Any:
    if iou_type == "bbox":
        return ground_truth.boxes
    missing = [i for i, segmentation in enumerate(ground_truth.segmentations) if not segmentation]
    if missing:
        raise ValueError(
            f"Expected a mask for every annotation to compute segm AP, but {len(missing)} of "
            f"{len(ground_truth.segmentations)} have none, the first in image "
            f"{ground_truth.image_ids[ground_truth.images[missing[0]]]}; evaluate boxes only or "
            "add the masks."
        )
    return [
        segmentation_to_rle(segmentation, ground_truth.image_sizes[image])
        for segmentation, image in zip(ground_truth.segmentations, ground_truth.images, strict=True)
    ]


def _is_outside(areas: np.ndarray) -> np.ndarray:
    """Tell for each of n areas whether it lies outside each range, (n, A)."""
    return (areas[:, None] < AREA_RANGES[:, 0]) | (areas[:, None] > AREA_RANGES[:, 1])


def _annotation_is_ignored(ground_truth: GroundTruth) -> np.ndarray:
    return _is_outside(ground_truth.areas) | ground_truth.is_ignored[:, None]


def _match(
    ground_truth: GroundTruth, detections: Detections, annotation_shapes: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Match detections to annotations of the same image and class, best score first.

    Returns:
        Whether a detection is matched and whether it is ignored, both (n, A, T) bool.
    """
    shape = (len(detections.scores), len(AREA_RANGES), len(IOU_THRESHOLDS))
    is_matched = np.zeros(shape, dtype=bool)
    is_ignored = np.zeros(shape, dtype=bool)
    annotation_ignored = _annotation_is_ignored(ground_truth)
    detection_groups = _group(detections.classes * ground_truth.num_images + detections.images)
    annotation_groups = _group(ground_truth.classes * ground_truth.num_images + ground_truth.images)
    for pair, rows in detection_groups.items():
        columns = annotation_groups.get(pair)
        if columns is None:
            continue
        ious = mask_utils.iou(
            _take(detections.shapes, rows), _take(annotation_shapes, columns), [0] * len(columns)
        )
        is_matched[rows], is_ignored[rows] = _match_pair(ious, annotation_ignored[columns].T)
    may_be_missing = ground_truth.is_not_exhaustive[detections.images, detections.classes]
    excused = _is_outside(detections.areas) | may_be_missing[:, None]
    is_ignored |= ~is_matched & excused[:, :, None]
    return is_matched, is_ignored


def _group(keys: np.ndarray) -> dict[int, np.ndarray]:
    """Positions of each key, ascending."""
    if len(keys) == 0:
        return {}
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order])) + 1
    groups = np.split(order, starts)
    return {int(keys[group[0]]): group for group in groups}


def _take(shapes: Any, rows: np.ndarray) -> Any:
    return shapes[rows] if isinstance(shapes, np.ndarray) else [shapes[row] for row in rows]


def _match_pair(ious: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Greedy matching within one image and class, for all ranges and thresholds at once.

    An annotation that counts is preferred to an ignored one; then the largest IoU wins, and of
    equal ones the last.

    Args:
        ious: (D, G), detections by descending score.
        ignored: (A, G) bool.

    Returns:
        matched and matched to an ignored annotation, both (D, A, T) bool.
    """
    num_areas, num_annotations = ignored.shape
    matched = np.zeros((len(ious), num_areas, len(IOU_THRESHOLDS)), dtype=bool)
    matched_ignored = np.zeros_like(matched)
    is_free = np.ones((*matched.shape[1:], num_annotations), dtype=bool)
    counts = ~ignored[:, None, :]
    areas, thresholds = np.ogrid[: matched.shape[1], : matched.shape[2]]
    for row in np.flatnonzero(ious.max(axis=1) >= IOU_THRESHOLDS[0]):
        candidates = is_free & (ious[row] >= IOU_THRESHOLDS[:, None])
        counted = candidates & counts
        candidates = np.where(counted.any(axis=2, keepdims=True), counted, candidates)
        values = np.where(candidates, ious[row], -1.0)
        best = num_annotations - 1 - values[:, :, ::-1].argmax(axis=2)
        found = candidates.any(axis=2)
        matched[row] = found
        matched_ignored[row] = found & ignored[areas, best]
        is_free[areas, thresholds, best] &= ~found
    return matched, matched_ignored


def _accumulate(
    ground_truth: GroundTruth,
    detections: Detections,
    is_matched: np.ndarray,
    is_ignored: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolated precision (T, R, K, A) and largest recall (T, K, A), nan without annotations."""
    num_classes, num_areas = ground_truth.num_classes, len(AREA_RANGES)
    precision = np.full((len(IOU_THRESHOLDS), len(RECALL_LEVELS), num_classes, num_areas), np.nan)
    recall = np.full((len(IOU_THRESHOLDS), num_classes, num_areas), np.nan)
    annotation_counts = ~_annotation_is_ignored(ground_truth)
    totals = np.stack(
        [
            np.bincount(ground_truth.classes[annotation_counts[:, area]], minlength=num_classes)
            for area in range(num_areas)
        ],
        axis=1,
    )
    bounds = np.searchsorted(detections.classes, np.arange(num_classes + 1))
    for index, area in np.argwhere(totals > 0):
        rows = slice(bounds[index], bounds[index + 1])
        matched, counted = is_matched[rows, area], ~is_ignored[rows, area]
        true_positives = np.cumsum(matched & counted, axis=0)
        positives = np.cumsum(counted, axis=0)
        recalls = true_positives / totals[index, area]
        precisions = true_positives / (positives + np.spacing(1))
        envelope = np.maximum.accumulate(precisions[::-1], axis=0)[::-1]
        precision[:, :, index, area] = 0.0
        recall[:, index, area] = recalls[-1] if len(recalls) else 0.0
        for threshold in range(len(IOU_THRESHOLDS)):
            at = np.searchsorted(recalls[:, threshold], RECALL_LEVELS, side="left")
            reached = at < len(recalls)
            precision[threshold, reached, index, area] = envelope[at[reached], threshold]
    return precision, recall


def _summarise(
    ground_truth: GroundTruth, iou_type: str, precision: np.ndarray, recall: np.ndarray
) -> LVISResult:
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
