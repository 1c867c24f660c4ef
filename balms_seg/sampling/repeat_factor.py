"""Repeat-factor sampling: images with rare classes come several times an epoch.

Symbols: N images, K classes, f(c) the share of the N images that show class c, t the threshold.
Source: Gupta et al. 2019 (arXiv 1908.03195), appendix B.2; implementation of the same definition in
detectron2's `RepeatFactorTrainingSampler`.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import torch

from balms_seg.class_statistics.annotation_counts import distinct_pairs
from balms_seg.class_statistics.repeat_threshold import describe_threshold, threshold_that_repeats
from balms_seg.sampling.registry import SAMPLER_REGISTRY
from balms_seg.sampling.streams import Block, IndexStream

logger = logging.getLogger(__name__)

#: A threshold that a run replaces by `threshold_that_repeats` before it starts.
AUTO_REPEAT_THRESHOLD = -1.0


def image_class_pairs(
    dataset_dicts: Sequence[dict], num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which classes each image shows, crowd regions included and ignored ones left out.

    Args:
        dataset_dicts: N data set dicts; "annotations" may be empty or missing, a classification
            dict has "label" instead.
        num_classes: K.

    Returns:
        image (P,) and class (P,) int64 of the distinct pairs, ordered by image, then class.

    Raises:
        ValueError: a class id lies outside [0, K).
    """
    return distinct_pairs(*image_and_class_of_annotations(dataset_dicts), num_classes)


def compute_image_frequency(dataset_dicts: Sequence[dict], num_classes: int) -> np.ndarray:
    """(K,) share of all N images that show each class, crowd annotations included."""
    _, classes = image_class_pairs(dataset_dicts, num_classes)
    return np.bincount(classes, minlength=num_classes) / max(len(dataset_dicts), 1)


def compute_repeat_factors(
    dataset_dicts: Sequence[dict], num_classes: int, threshold: float, *, sqrt: bool = True
) -> np.ndarray:
    """Image repeat factor: the maximum over the image's classes of max(1, sqrt(t / f(c))).

    As in detectron2, f counts crowd annotations and divides by all N images, those without
    annotations too.

    Args:
        dataset_dicts: N data set dicts.
        num_classes: K.
        threshold: t; classes in a smaller share of the images are repeated.
        sqrt: False gives max(1, t / f(c)), detectron2 main's `DATALOADER.REPEAT_SQRT`.

    Returns:
        (N,) float64, at least 1; exactly 1 for images without annotations.

    Raises:
        ValueError: a class id lies outside [0, K), or the threshold is negative.
    """
    images, classes = image_class_pairs(dataset_dicts, num_classes)
    counts = np.bincount(classes, minlength=num_classes)
    class_factors = class_repeat_factors(counts, len(dataset_dicts), threshold, sqrt=sqrt)
    return max_over_classes(class_factors, images, classes, len(dataset_dicts))


def class_repeat_factors(
    image_counts: np.ndarray, num_images: int, threshold: float, *, sqrt: bool = True
) -> np.ndarray:
    """(K,) class repeat factors max(1, sqrt(t / f(c))), f(c) = image_counts / num_images.

    Args:
        image_counts: (K,) images that show each class; a class without any counts as one.
        num_images: N.
        threshold: t; -1 (auto) is the one at which a third of the classes repeat.
        sqrt: as for `compute_repeat_factors`.

    Raises:
        ValueError: the threshold is another negative number.
    """
    frequency = np.where(image_counts > 0, image_counts / max(num_images, 1), 0.0)
    return repeat_factors_of(frequency, threshold, sqrt=sqrt, absent=1 / max(num_images, 1))


def repeat_factors_of(
    frequency: np.ndarray, threshold: float, *, sqrt: bool = True, absent: float = 1.0
) -> np.ndarray:
    """(K,) class repeat factors max(1, sqrt(t / f)).

    Args:
        frequency: (K,) f; 0 for absent classes.
        threshold: as for `class_repeat_factors`.
        sqrt: as for `compute_repeat_factors`.
        absent: f of absent classes, whose factors no image has.

    Raises:
        ValueError: the threshold is negative and not -1.
    """
    if threshold == AUTO_REPEAT_THRESHOLD and frequency.any():
        threshold = threshold_that_repeats(frequency)
    if threshold < 0:
        raise ValueError(
            f"Expected DATALOADER.REPEAT_THRESHOLD >= 0, or -1 for auto, but got {threshold}."
        )
    ratio = threshold / np.where(frequency > 0, frequency, absent)
    return np.maximum(1.0, np.sqrt(ratio) if sqrt else ratio)


def max_over_classes(
    class_factors: np.ndarray, images: np.ndarray, classes: np.ndarray, num_images: int
) -> np.ndarray:
    """(N,) largest factor among each image's classes; 1 where an image has none.

    Args:
        class_factors: (K,) at least 1.
        images: (P,) image of each (image, class) pair.
        classes: (P,) class of each pair.
        num_images: N.
    """
    factors = np.ones(num_images)
    np.maximum.at(factors, images, class_factors[classes])
    return factors


def report_threshold(cfg: Any, frequency: np.ndarray, *, are_all_one: bool) -> None:
    """Log which threshold "auto" is, or warn that the one that was set repeats nothing.

    Args:
        cfg: its `DATALOADER.REPEAT_THRESHOLD` is what is reported.
        frequency: (K,) share of images that show each class.
        are_all_one: whether no repeat factor is above 1.
    """
    threshold, found = repeat_factor_settings(cfg)["threshold"], threshold_that_repeats(frequency)
    if threshold == AUTO_REPEAT_THRESHOLD:
        logger.info(describe_threshold(found, frequency))
    elif are_all_one:
        logger.warning(
            "All repeat factors are 1: no class is rarer than DATALOADER.REPEAT_THRESHOLD = "
            "%g, so every image is drawn equally often. From REPEAT_THRESHOLD %g on, a third "
            "of the classes that have training images would repeat.",
            threshold,
            found,
        )


def repeat_factor_settings(cfg: Any) -> dict[str, Any]:
    """`threshold` and `sqrt` as the configuration gives them.

    detectron2 main has `DATALOADER.REPEAT_SQRT`; 0.6 lacks the key and always takes the root.
    """
    threshold = cfg.DATALOADER.REPEAT_THRESHOLD  # "auto" where a script has set it by hand
    return {
        "threshold": AUTO_REPEAT_THRESHOLD if threshold == "auto" else threshold,
        "sqrt": getattr(cfg.DATALOADER, "REPEAT_SQRT", True),
    }


@SAMPLER_REGISTRY.register()
class RepeatFactorTrainingSampler(IndexStream):
    """Epochs in which image i comes floor(r_i) or ceil(r_i) times, r_i times in expectation.

    The same seed and factors give the stream of detectron2's class of this name, which holds the
    factors in float32; so does this one.

    Args:
        repeat_factors: (N,) non-negative, not all zero.
        seed: seed of the stream, the same on all ranks.
        shuffle: False gives every epoch in data set order.

    Raises:
        ValueError: a factor is negative or not finite, or none is positive.
    """

    def __init__(
        self,
        repeat_factors: np.ndarray | Sequence[float],
        *,
        seed: int,
        shuffle: bool = True,
    ) -> None:
        factors = np.array(repeat_factors, dtype=np.float64)
        super().__init__(len(factors), seed=seed)
        if not np.isfinite(factors).all() or factors.min() < 0 or factors.max() <= 0:
            raise ValueError(
                "Expected finite repeat factors >= 0 of which one is positive, but got values "
                f"from {factors.min()} to {factors.max()}."
            )
        self._factors = factors
        self._shuffle = shuffle

    @classmethod
    def from_config(
        cls, cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int, seed: int
    ) -> RepeatFactorTrainingSampler:
        """Build with the factors that `DATALOADER.REPEAT_THRESHOLD` gives."""
        factors = cls.expected_repeats(cfg, dataset_dicts, num_classes=num_classes)
        frequency = cls.class_frequency(dataset_dicts, num_classes)
        report_threshold(cfg, frequency, are_all_one=bool((factors == 1).all()))
        return cls(factors, seed=seed)

    @classmethod
    def class_frequency(cls, dataset_dicts: Sequence[dict], num_classes: int) -> np.ndarray:
        """(K,) what the threshold is compared with; 0 for absent classes."""
        return compute_image_frequency(dataset_dicts, num_classes)

    @classmethod
    def class_factors(
        cls, cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int
    ) -> np.ndarray:
        """(K,) class repeat factors max(1, sqrt(t / f(c))), f(c) that of `class_frequency`."""
        frequency = cls.class_frequency(dataset_dicts, num_classes)
        return repeat_factors_of(frequency, **repeat_factor_settings(cfg))

    @classmethod
    def expected_repeats(
        cls, cfg: Any, dataset_dicts: Sequence[dict], *, num_classes: int
    ) -> np.ndarray:
        """(N,) the largest class factor in each image."""
        factors = cls.class_factors(cfg, dataset_dicts, num_classes=num_classes)
        images, classes = image_class_pairs(dataset_dicts, num_classes)
        return max_over_classes(factors, images, classes, len(dataset_dicts))

    def epoch_factors(self) -> np.ndarray:
        """(N,) factors of the epoch that is drawn next."""
        return self._factors

    def draw_block(self, generator: torch.Generator) -> Block:
        """One epoch; its length varies with the rounding."""
        # stochastic rounding, in detectron2's order of draws
        factors = self.epoch_factors().astype(np.float32)
        whole = np.trunc(factors)
        rands = torch.rand(self.size, generator=generator).numpy()
        repeats = whole + (rands < factors - whole)
        indices = np.repeat(np.arange(self.size), repeats.astype(np.int64))
        if self._shuffle:
            indices = indices[torch.randperm(len(indices), generator=generator).numpy()]
        return Block(indices)

    def _identity(self) -> dict[str, Any]:
        return {**super()._identity(), "factors_crc32": zlib.crc32(self._factors.tobytes())}


def repeat_factor_sampler(cfg: Any) -> type[RepeatFactorTrainingSampler]:
    """The configured sampler, whose definition of rarity counts; the plain one for others."""
    sampler = SAMPLER_REGISTRY.get(cfg.DATALOADER.SAMPLER_TRAIN)
    if issubclass(sampler, RepeatFactorTrainingSampler):
        return sampler
    return RepeatFactorTrainingSampler


def image_and_class_of_annotations(
    dataset_dicts: Sequence[dict],
) -> tuple[np.ndarray, np.ndarray]:
    """Of every annotation but ignored regions the place of its dict, ascending, and the class."""
    if hasattr(dataset_dicts, "instance_classes"):  # arrays already
        return dataset_dicts.instance_classes(with_crowd=True)
    rows = [_annotations(record) for record in dataset_dicts]
    lengths = list(map(len, rows))
    category_ids = map(itemgetter("category_id"), chain.from_iterable(rows))
    images = np.repeat(np.arange(len(dataset_dicts), dtype=np.int64), lengths)
    return images, np.fromiter(category_ids, np.int64, sum(lengths))


def _annotations(record: dict) -> list[dict]:
    if "annotations" in record:
        return [entry for entry in record["annotations"] if not entry.get("ignore", 0)]
    return [{"category_id": record["label"]}] if "label" in record else []
