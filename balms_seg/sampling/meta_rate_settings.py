"""What the meta repeat-factor sampler is built with, checked, and the rates that it plans."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from balms_seg.sampling.estimators import ESTIMATORS
from balms_seg.sampling.image_rates import ImageClasses
from balms_seg.sampling.repeat_factor import (
    class_repeat_factors,
    repeat_factor_settings,
    report_threshold,
)


class PlannedRates(NamedTuple):
    """The psi that holds from a block on.

    Attributes:
        first_block: number of the block, from 0.
        psi: (K,) float64; never changed in place.
    """

    first_block: int
    psi: np.ndarray


def whole_batches(block_size: int, batch_size: int) -> int:
    """The block size, if it is a multiple of the batch size; else a ValueError."""
    if block_size % batch_size:
        raise ValueError(
            f"Expected META.BLOCK to be a multiple of SOLVER.IMS_PER_BATCH {batch_size}, but "
            f"got {block_size}; set it to {math.ceil(block_size / batch_size) * batch_size}."
        )
    return block_size


def base_repeat_factors(cfg: Any, image_classes: ImageClasses) -> np.ndarray:
    """(K,) class repeat factors; says what the threshold does, see `report_threshold`."""
    counts, num_images = image_classes.image_counts, image_classes.num_images
    factors = class_repeat_factors(counts, num_images, **repeat_factor_settings(cfg))
    are_all_one = bool((factors[counts > 0] == 1).all())
    report_threshold(cfg, counts / num_images, are_all_one=are_all_one)
    return factors


def check_settings(
    base_rates: np.ndarray,
    image_classes: ImageClasses,
    estimator: str,
    block_size: int,
    lookahead: int,
) -> None:
    """Raise ValueError for what no sampler can be built with."""
    if base_rates.shape != (image_classes.num_classes,):
        raise ValueError(
            f"Expected a base rate for each of {image_classes.num_classes} classes, but got shape "
            f"{base_rates.shape}."
        )
    if not (np.isfinite(base_rates) & (base_rates > 0)).all():
        raise ValueError(
            "Expected finite base rates above 0, but got values from "
            f"{base_rates.min()} to {base_rates.max()}."
        )
    if estimator not in ESTIMATORS:
        raise ValueError(
            f"Expected an estimator out of {sorted(ESTIMATORS)}, but got {estimator!r}."
        )
    if block_size < 1 or lookahead < 0:
        raise ValueError(
            "Expected META.BLOCK of at least 1 and META.LOOKAHEAD of at least 0, but got "
            f"{block_size} and {lookahead}."
        )
