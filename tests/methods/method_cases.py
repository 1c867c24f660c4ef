"""Methods and made-up rows for them. R rows, K classes; for boxes K is background."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from balms_seg import ClassStatistics
from balms_seg.methods import METHODS, LossContext, Method, TrainingProgress

K = 5
IMAGE_COUNTS = np.array([60, 30, 20, 15, 12])
STATISTICS = ClassStatistics(
    image_counts=IMAGE_COUNTS,
    instance_counts=2 * IMAGE_COUNTS,
    num_images=100,
    class_names=tuple("abcde"),
    group_names=("rare", "common", "frequent"),
    group_ids=np.ones(K, np.int64),
    sampled_counts=2.0 * IMAGE_COUNTS * np.arange(1, K + 1) ** 0.5,
)
BOX_TARGETS = torch.tensor([0, 1, 2, 3, 4, 0, 2, K, K, K, K, K])
IMAGE_TARGETS = torch.tensor([0, 1, 2, 3, 4, 0, 2, 0, 0, 1])
# 16 epochs of 100 images in all, 15 of them over.
PROGRESS = TrainingProgress(iteration=750, max_iter=800, images_per_batch=2)
# Of methods whose defaults are for more classes than K, or for rarer ones.
SETTINGS: dict[str, dict[str, Any]] = {
    "federated": {"classes": 3},
    "bags": {"bounds": (35, 50), "others_ratio": 1.0},
    "eql": {"threshold": 0.25},
    "droploss": {"threshold": 0.25},
    "gol": {"threshold": 0.25},
}


def build(
    name: str,
    *,
    has_background: bool = True,
    statistics: ClassStatistics | None = STATISTICS,
    **settings: Any,
) -> Method:
    cls = METHODS[name]
    method = cls(
        K,
        has_background=has_background,
        settings=cls.Settings(**{**SETTINGS.get(name, {}), **settings}),
    )
    method.prepare(statistics)
    return method


def targets_of(method: Method) -> Tensor:
    return BOX_TARGETS if method.has_background else IMAGE_TARGETS


def logits_of(method: Method, rows: int | None = None, seed: int = 0) -> Tensor:
    rows = len(targets_of(method)) if rows is None else rows
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, method.num_columns, generator=generator).mul(3).requires_grad_()


def context_of(rows: int, progress: TrainingProgress = PROGRESS) -> LossContext:
    features = torch.rand(rows, 3, generator=torch.Generator().manual_seed(1)) + 0.5
    return LossContext(features, progress, generator=torch.Generator().manual_seed(2))


def loss_of(
    method: Method, logits: Tensor, targets: Tensor, progress: TrainingProgress = PROGRESS
) -> Tensor:
    return method.loss(logits, targets, context_of(len(logits), progress))
