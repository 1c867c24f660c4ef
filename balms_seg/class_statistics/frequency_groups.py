"""Groups of classes by how many training images hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

LVIS_GROUPS = ("rare", "common", "frequent")  # 1-10, 11-100, more than 100 training images
# RGB in every picture and figure, rarest group first: red, orange, blue. Told apart in the common
# forms of colour blindness.
GROUP_COLORS = ((200, 85, 61), (217, 154, 43), (47, 111, 143))
CLASSIFICATION_GROUPS = ("few", "medium", "many")  # fewer than 20, 20-100, more than 100

# Largest counts of few and medium in ImageNet-LT's evaluation (Liu et al. 2019, arXiv 1904.05160).
PUBLISHED_BOUNDS = (19, 100)
_FIRST_COUNT_OF_LATER_GROUPS: dict[tuple[str, ...], tuple[int, int]] = {
    LVIS_GROUPS: (11, 101),
    CLASSIFICATION_GROUPS: (PUBLISHED_BOUNDS[0] + 1, PUBLISHED_BOUNDS[1] + 1),
}
_LVIS_LETTERS = ("r", "c", "f")


def group_by_bounds(image_counts: np.ndarray, bounds: tuple[int, int]) -> np.ndarray:
    """(K,) index of each class's group, rarest first.

    Args:
        image_counts: (K,) training images of each class.
        bounds: the largest counts of the first and of the second group.
    """
    return np.digitize(image_counts, np.array(bounds) + 1)


def usual_bounds(group_names: tuple[str, ...]) -> tuple[int, int]:
    """Largest counts of the first and of the second group, where nothing else is said."""
    first, second = _FIRST_COUNT_OF_LATER_GROUPS[group_names]
    return first - 1, second - 1


def third_bounds(image_counts: np.ndarray) -> tuple[int, int] | None:
    """Bounds that put about a third of the classes into each group; classes of one count together.

    Classes without an image have no say; they are in the first group whatever the bounds. Where so
    many classes share a count that thirds do not part, the bounds that come next to it.

    Returns:
        As `group_by_bounds` takes them; None where there are fewer than three different counts.
    """
    counts = np.sort(image_counts[image_counts > 0])
    if not counts.size:
        return None
    first, second = (int(counts[-(-part * len(counts) // 3) - 1]) for part in (1, 2))
    if first < second < counts[-1]:
        return first, second
    different, numbers = np.unique(counts, return_counts=True)
    if len(different) < 3:
        return None
    below = np.cumsum(numbers)
    # Sums of squares of the groups' sizes are least where they are most alike.
    lower, upper = np.triu_indices(len(different) - 1, k=1)
    sizes = np.stack([below[lower], below[upper] - below[lower], len(counts) - below[upper]])
    best = int((sizes**2).sum(axis=0).argmin())
    return int(different[lower[best]]), int(different[upper[best]])


def group_spans(
    image_counts: np.ndarray, groups: Mapping[str, np.ndarray]
) -> dict[str, tuple[int, int]]:
    """Fewest and most training images of a class in each group that has classes.

    Args:
        image_counts: (K,) training images of each class.
        groups: class ids per group name.
    """
    return {
        name: (int(image_counts[ids].min()), int(image_counts[ids].max()))
        for name, ids in groups.items()
        if len(ids)
    }


def assign_groups(
    image_counts: np.ndarray,
    group_names: tuple[str, ...],
    frequency: Sequence[str | None] | None = None,
) -> np.ndarray:
    """Put each class into its frequency group.

    Args:
        image_counts: (K,) images that hold the class; a class without one is in the first group.
        group_names: `LVIS_GROUPS` or `CLASSIFICATION_GROUPS`.
        frequency: K letters "r", "c" or "f" that win over the counts, as LVIS's own field does;
            None where unknown.

    Returns:
        (K,) int64 index into `group_names`.

    Raises:
        ValueError: the letters are not K, or not among the three.
    """
    groups = np.digitize(image_counts, _FIRST_COUNT_OF_LATER_GROUPS[group_names])
    if frequency is None:
        return groups
    if len(frequency) != len(groups):
        raise ValueError(f"Expected {len(groups)} frequency letters, but got {len(frequency)}.")
    unknown = sorted({str(letter) for letter in frequency if letter is not None} - {*_LVIS_LETTERS})
    if unknown:
        raise ValueError(
            f"Expected frequency letters among {_LVIS_LETTERS}, but got {unknown[:5]}; correct the "
            "categories' field or remove it, so that the groups follow from the counts."
        )
    given = [-1 if letter is None else _LVIS_LETTERS.index(letter) for letter in frequency]
    return np.where(np.array(given) >= 0, given, groups)
