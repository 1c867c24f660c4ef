"""What copy-paste adds to an image and to a training set. K: classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from balms_seg.class_statistics.checks import checked_counts


class PastesPerImage(NamedTuple):
    """What an image gets, in expectation.

    Attributes:
        instances: (K,) float64 instances of each class.
        images: (K,) float64 probability that it gets one of the class.
        any_class: probability that it gets one at all.
    """

    instances: np.ndarray
    images: np.ndarray
    any_class: float


@dataclass(frozen=True, eq=False)
class PastedCounts:
    """What is added to a training set where every image is drawn once, in expectation.

    Attributes:
        instances: (K,) float64.
        images: (K,) float64 images that show the class by a pasted instance alone.
        num_images: images that show an instance by pasting alone.

    Raises:
        ValueError: counts are negative or nan, or of different numbers of classes.
    """

    instances: np.ndarray
    images: np.ndarray
    num_images: float = 0.0

    def __post_init__(self) -> None:
        num_classes = len(self.instances)
        for name in ("instances", "images"):
            counts = checked_counts(f"pasted {name}", getattr(self, name), num_classes, np.float64)
            object.__setattr__(self, name, counts)
