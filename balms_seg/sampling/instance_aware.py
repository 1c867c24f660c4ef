"""Instance-aware repeat factors: classes with few objects count as rare, in however many images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from balms_seg.sampling.registry import SAMPLER_REGISTRY
from balms_seg.sampling.repeat_factor import (
    RepeatFactorTrainingSampler,
    compute_image_frequency,
    image_and_class_of_annotations,
)


@SAMPLER_REGISTRY.register()
class InstanceAwareRepeatFactorTrainingSampler(RepeatFactorTrainingSampler):
    """Repeat-factor sampling with f(c) = sqrt(share of the images * share of the instances).

    `DATALOADER.REPEAT_THRESHOLD` is the threshold of these f(c), and auto (-1) that at which a
    third of the classes repeat.

    Source: Yaman et al. 2023 (arXiv 2305.08069), IRFS.
    """

    @classmethod
    def class_frequency(cls, dataset_dicts: Sequence[dict], num_classes: int) -> np.ndarray:
        """(K,) geometric mean of the shares; 0 for absent classes."""
        of_images = compute_image_frequency(dataset_dicts, num_classes)
        _, classes = image_and_class_of_annotations(dataset_dicts)
        of_instances = np.bincount(classes, minlength=num_classes) / max(len(classes), 1)
        return np.sqrt(of_images * of_instances)
