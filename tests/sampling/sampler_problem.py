"""A small data set for the meta sampler, and a sampler on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from balms_seg.meta import AdamSettings
from balms_seg.sampling import BoundedLink, ImageClasses, MetaRepeatFactorTrainingSampler
from balms_seg.sampling.repeat_factor import class_repeat_factors

NUM_CLASSES = 6
THRESHOLD = 0.5
SETTINGS = {
    "seed": 3,
    "link": BoundedLink(4.0),
    "estimator": "score",
    "block_size": 24,
    "lookahead": 0,
}
# images of many classes and of none; classes 1 and 2 tie where they meet; class 5 is absent
SHOWN = [[0], [], [0, 1], [0, 1, 2], [2, 0], [0], [3, 0], [], [4], [0, 4, 3], [0, 2, 1], [0, 0]]


def made_up_dicts(shown: list[list[int]] = SHOWN) -> list[dict]:
    """Data set dicts that show these classes."""
    return [{"annotations": [{"category_id": c} for c in classes]} for classes in shown]


def make_sampler(
    shown: list[list[int]] = SHOWN,
    num_classes: int = NUM_CLASSES,
    *,
    lr: float = 0.01,
    weight_decay: float = 0.0,
    **settings: Any,
) -> MetaRepeatFactorTrainingSampler:
    """A sampler on repeat factors at THRESHOLD."""
    adam = AdamSettings(lr, (0.9, 0.999), weight_decay)
    image_classes = ImageClasses(made_up_dicts(shown), num_classes)
    base_rates = class_repeat_factors(image_classes.image_counts, len(shown), THRESHOLD)
    return MetaRepeatFactorTrainingSampler(
        image_classes, base_rates, adam=adam, **{**SETTINGS, **settings}
    )


def random_gradient(step: int, num_classes: int = NUM_CLASSES) -> torch.Tensor:
    """A gradient that differs by class and step."""
    return torch.from_numpy(np.random.default_rng(step).normal(size=num_classes))
