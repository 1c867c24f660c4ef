"""Which classes stand in which image: a long tail whose counts come out exactly as asked for."""

from __future__ import annotations

import numpy as np


def tail_counts(num_classes: int, low: int, high: int, exponent: float = 1.0) -> np.ndarray:
    """Images per class, from the most to the least frequent.

    Args:
        num_classes: K.
        low: images of the last class, at least 1.
        high: images of the first class.
        exponent: of the relative rank; 1 is the exponential tail of the long-tailed CIFAR sets,
            less falls sooner, more keeps a broader head.

    Returns:
        (K,) int64, high * (low / high) ** ((rank / (K - 1)) ** exponent), rounded.
    """
    ranks = np.arange(num_classes) / max(num_classes - 1, 1)
    return np.rint(high * (low / high) ** (ranks**exponent)).astype(np.int64)


# LVIS v1's training images a class at shares of its 1203 classes, from the rarest on
# (lvis_v1_train.json, as detectron2's lvis_v1_category_image_count.py has them).
_LVIS_SHARES = (0, 0.05, 0.1, 0.2, 0.28, 0.4, 0.5, 0.6, 0.66, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1)
_LVIS_COUNTS = (1, 1, 3, 6, 10, 22, 37, 66, 99, 130, 221, 358, 725, 1400, 1876, 1977)


def lvis_counts(num_classes: int, high: int) -> np.ndarray:
    """Images per class with LVIS v1's quantiles, from the most to the least frequent.

    Counts above 100, where LVIS's frequent classes begin, are stretched on a logarithmic scale to
    end at `high`.

    Args:
        num_classes: K.
        high: images of the first class, more than 100.

    Returns:
        (K,) int64.
    """
    shares = (np.arange(num_classes) + 0.5) / num_classes
    logs = np.interp(shares, _LVIS_SHARES, np.log(_LVIS_COUNTS))
    first = np.log(100)
    stretch = (np.log(high) - first) / (np.log(_LVIS_COUNTS[-1]) - first)
    logs = np.where(logs > first, first + stretch * (logs - first), logs)
    return np.rint(np.exp(logs)).astype(np.int64)[::-1].copy()


def highest_count(
    num_classes: int, low: int, total: float, limit: int, exponent: float = 1.0
) -> int:
    """The largest head count up to `limit` whose tail has at most `total` images over all classes.

    Raises:
        ValueError: even `low` images for every class are more than `total`.
    """
    if num_classes * low > total:
        raise ValueError(
            f"Expected room for {num_classes} classes with at least {low} training images each, "
            f"but the images hold about {total:.0f} glyphs of different classes; ask for more "
            "training images, fewer classes or more instances per image."
        )
    best, above = low, limit + 1
    while above - best > 1:
        middle = (best + above) // 2
        if tail_counts(num_classes, low, middle, exponent).sum() <= total:
            best = middle
        else:
            above = middle
    return best


def assign_classes(
    counts: np.ndarray, num_images: int, low: int, high: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Distribute classes over images, each class over exactly its count of different images.

    Args:
        counts: (K,) images per class, at most `num_images`.
        num_images: number of images.
        low: least number of different classes in an image.
        high: greatest number.
        rng: source of randomness.

    Returns:
        For each image its class indices, ascending.

    Raises:
        ValueError: the counts do not fit.
    """
    total = int(counts.sum())
    if counts.max() > num_images:
        raise ValueError(
            f"Expected at least {counts.max()} images, the count of the most frequent class, but "
            f"got {num_images}; ask for more images or a lower greatest count."
        )
    if not low * num_images <= total <= high * num_images:
        raise ValueError(
            f"Expected {low} to {high} classes in an image, but {total} class occurrences over "
            f"{num_images} images make {total / num_images:.2f}; change the number of images, the "
            "counts or the instances per image."
        )
    images = _fill(counts, _random_capacities(total, num_images, low, high, rng), rng)
    if images is None:  # nearly level capacities always have room for counts <= num_images
        level = np.full(num_images, total // num_images)
        level[: total - level.sum()] += 1
        images = _fill(counts, level, rng)
        assert images is not None
    _mix(images, 5 * num_images, rng)
    return [np.array(sorted(classes), dtype=np.int64) for classes in images]


def _random_capacities(
    total: int, num_images: int, low: int, high: int, rng: np.random.Generator
) -> np.ndarray:
    capacities = rng.integers(low, high + 1, num_images)
    while (missing := total - int(capacities.sum())) != 0:
        step = 1 if missing > 0 else -1
        free = np.flatnonzero(capacities < high if missing > 0 else capacities > low)
        capacities[rng.permutation(free)[: abs(missing)]] += step
    return capacities


def _fill(
    counts: np.ndarray, capacities: np.ndarray, rng: np.random.Generator
) -> list[set[int]] | None:
    """Greedy by remaining room, which succeeds wherever any assignment does (Gale, Ryser)."""
    room = capacities.copy()
    images: list[set[int]] = [set() for _ in range(len(room))]
    for class_index in np.argsort(-counts, kind="stable"):
        shuffled = rng.permutation(len(room))
        fullest_last = shuffled[np.argsort(-room[shuffled], kind="stable")]
        taken = fullest_last[: counts[class_index]]
        if room[taken].min(initial=1) < 1:
            return None
        room[taken] -= 1
        for image in taken:
            images[image].add(int(class_index))
    return images


def _mix(images: list[set[int]], num_trades: int, rng: np.random.Generator) -> None:
    """Trade classes between random pairs of images; every count and every image size stays.

    Source: the curveball algorithm, Strona et al. 2014 (doi 10.1038/ncomms5114).
    """
    pairs = rng.integers(0, len(images), (num_trades, 2))
    for first, second in pairs.tolist():
        common = images[first] & images[second]
        only_first = len(images[first]) - len(common)
        differing = sorted(images[first] ^ images[second])
        rng.shuffle(differing)
        images[first] = common | set(differing[:only_first])
        images[second] = common | set(differing[only_first:])
