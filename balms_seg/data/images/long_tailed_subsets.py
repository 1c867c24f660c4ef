"""Long-tailed subsets of a balanced training set: how many of each class, and which.

K: classes, n: samples of the whole set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from balms_seg.wording import counted

SUBSET_KINDS = ("exponential", "step")


def subset_sizes(
    largest: int, num_classes: int, rho: float, kind: str = "exponential"
) -> np.ndarray:
    """Samples of each class, the most frequent class first.

    Args:
        largest: samples of the first class.
        num_classes: K.
        rho: largest over smallest size, at least 1.
        kind: "exponential": int(largest * rho ** (-i / (K - 1))) for class i; "step": the first
            half of the classes keeps `largest`, the others int(largest / rho).

    Returns:
        (K,) int64 positive sizes.

    Raises:
        ValueError: `rho` is below 1, `kind` is unknown, or a class would be empty.

    Source: Cui et al. 2019 (arXiv 1901.05555); the step from Buda et al. 2018 (arXiv 1710.05381).
    """
    if not rho >= 1 or not np.isfinite(rho):
        raise ValueError(
            f"Expected rho, the largest over the smallest class, to be at least 1, but got {rho}; "
            "its inverse is what some releases call the imbalance factor."
        )
    if num_classes < 1 or largest < 1:
        raise ValueError(
            f"Expected at least one class and one sample, but got {num_classes} and {largest}."
        )
    ranks = np.arange(num_classes)
    exponents: np.ndarray
    if kind == "exponential":
        exponents = ranks / max(num_classes - 1, 1)
    elif kind == "step":
        exponents = (ranks >= num_classes // 2).astype(np.float64) if num_classes > 1 else ranks
    else:
        raise ValueError(f"Expected kind to be one of {SUBSET_KINDS}, but got {kind!r}.")
    # The margin keeps what is whole in exact arithmetic from falling below itself.
    sizes = np.floor(largest * float(rho) ** -exponents * (1 + 1e-12)).astype(np.int64)
    if sizes.min() < 1:
        raise ValueError(
            f"rho {rho:g} leaves {int((sizes < 1).sum())} of {num_classes} classes without a "
            f"sample, as the largest has only {largest}; choose a rho up to {largest}."
        )
    return sizes


def draw_subset(
    labels: Sequence[int] | np.ndarray,
    sizes: Sequence[int] | np.ndarray,
    seed: int,
    *,
    keys: Sequence[str] | None = None,
) -> np.ndarray:
    """Choose which samples stay; for one seed a smaller subset lies within a larger one.

    Each class is put into an order that depends on the seed and its samples' keys alone, and its
    first samples stay. So a set from which samples outside of the subset were dropped gives the
    same subset, provided that the keys are names and not positions.

    Args:
        labels: (n,) class of each sample, in [0, K).
        sizes: (K,) samples to keep of each class.
        seed: of the draw.
        keys: n different names; by default the positions 0 to n - 1.

    Returns:
        (sum of sizes,) int64 positions in `labels`, ascending.

    Raises:
        ValueError: a label is out of range, keys are not n different ones, or a class has fewer
            samples than asked for.
    """
    labels, sizes = np.asarray(labels, np.int64), np.asarray(sizes, np.int64)
    if labels.size and (labels.min() < 0 or labels.max() >= len(sizes)):
        raise ValueError(
            f"Expected labels in [0, {len(sizes) - 1}], one for each of the {len(sizes)} sizes, "
            f"but got values from {labels.min()} to {labels.max()}."
        )
    available = np.bincount(labels, minlength=len(sizes))
    short = np.flatnonzero(available < sizes)
    if short.size:
        first = short[0]
        raise ValueError(
            f"The subset is larger than the data in {short.size} of {len(sizes)} classes: class "
            f"{first} should keep {counted(int(sizes[first]), 'sample')} but has "
            f"{available[first]}; ask for a smaller largest class or a larger rho."
        )
    names = [str(i) for i in range(len(labels))] if keys is None else list(keys)
    if len(names) != len(labels) or len(set(names)) != len(names):
        raise ValueError(
            f"Expected {len(labels)} different keys, one a sample, but got {len(names)} of which "
            f"{len(set(names))} differ."
        )
    ranks = np.array([_rank(seed, name) for name in names], np.uint64)
    order = np.lexsort((ranks, labels))  # by class, within it by rank
    starts = np.cumsum(available) - available
    rank_in_class = np.arange(len(labels)) - np.repeat(starts, available)
    return np.sort(order[rank_in_class < np.repeat(sizes, available)])


def _rank(seed: int, name: str) -> int:
    """64 bits that are the same on every machine and with every version of numpy."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest())
