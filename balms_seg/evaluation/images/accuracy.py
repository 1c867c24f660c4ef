"""Accuracy of an image classifier, overall, per class and per frequency group; numpy only.

n: evaluated images, K: classes, y: labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from balms_seg.class_statistics import ClassStatistics
from balms_seg.evaluation.images.classifier_predictions import ClassifierPredictions
from balms_seg.evaluation.uncertainty.reliability import Reliability, reliability


@dataclass(frozen=True, eq=False)
class ClassificationResult:
    """What an evaluation found.

    Attributes:
        metrics: in percent: top1, top5, balanced_error (100 - mean accuracy of the classes), ece,
            and top1-GROUP, the mean accuracy of a frequency group's classes; nan where empty.
        confusion: (K, K) int64 images by label (rows) and predicted class.
        class_top5: (K,) int64 images whose label is among the first five.
        calibration: reliability of "all" and of each group's images.
        group_sizes: per group, `classes` and `with_ground_truth`.
    """

    metrics: dict[str, float]
    confusion: np.ndarray
    class_top5: np.ndarray
    calibration: dict[str, Reliability]
    group_sizes: dict[str, dict[str, int]]


def evaluate_classification(
    predictions: ClassifierPredictions, num_classes: int, groups: Mapping[str, np.ndarray]
) -> ClassificationResult:
    """Evaluate predictions.

    Args:
        predictions: of n > 0 images.
        num_classes: K.
        groups: class ids per frequency group; empty where the training counts are not known.
    """
    y, predicted = predictions.labels, predictions.predicted
    is_right = predictions.is_right
    confusion = np.bincount(y * num_classes + predicted, minlength=num_classes**2)
    confusion = confusion.reshape(num_classes, num_classes)
    images = confusion.sum(1)
    has_images = images > 0
    accuracy = _share(np.diagonal(confusion), images)
    metrics = {
        "top1": 100 * is_right.mean(),
        "top5": 100 * predictions.in_top5.mean(),
        "balanced_error": 100 - 100 * accuracy[has_images].mean(),
    }
    calibration = {"all": reliability(predictions.confidences, is_right)}
    group_sizes = {}
    for name, ids in groups.items():
        members = np.isin(np.arange(num_classes), ids)
        known = accuracy[members & has_images]
        metrics[f"top1-{name}"] = 100 * known.mean() if known.size else np.nan
        own = members[y]
        calibration[name] = reliability(predictions.confidences[own], is_right[own])
        group_sizes[name] = {"classes": len(ids), "with_ground_truth": int(known.size)}
    metrics["ece"] = 100 * calibration["all"].expected_calibration_error
    return ClassificationResult(
        metrics={name: float(value) for name, value in metrics.items()},
        confusion=confusion,
        class_top5=np.bincount(y[predictions.in_top5], minlength=num_classes),
        calibration=calibration,
        group_sizes=group_sizes,
    )


def classification_rows(
    result: ClassificationResult,
    class_names: Sequence[str],
    statistics: ClassStatistics | None,
) -> list[dict[str, Any]]:
    """One row per class.

    Args:
        result: of an evaluation.
        class_names: K names.
        statistics: of the training set, where known.

    Returns:
        Rows with the same keys; accuracy, top5 and precision (the share of right ones among the
        images said to be of the class) in percent, nan where there is no such image.
    """
    confusion = result.confusion
    images, said = confusion.sum(1), confusion.sum(0)
    right = np.diagonal(confusion)
    columns = {
        "accuracy": 100 * _share(right, images),
        "top5": 100 * _share(result.class_top5, images),
        "precision": 100 * _share(right, said),
    }
    wrong = confusion - np.diag(right)
    group = {}
    if statistics is not None:
        group = {i: name for name, ids in statistics.groups.items() for i in ids.tolist()}
    return [
        {
            "class_id": i,
            "name": name,
            "group": group.get(i),
            "train_image_count": None if statistics is None else int(statistics.image_counts[i]),
            "val_images": int(images[i]),
            "predicted_images": int(said[i]),
            **{column: float(values[i]) for column, values in columns.items()},
            "most_confused_with": class_names[int(wrong[i].argmax())] if wrong[i].any() else None,
        }
        for i, name in enumerate(class_names)
    ]


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part of whole, nan where the whole is empty."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
