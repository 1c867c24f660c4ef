"""What class statistics are made from, checked where it comes in.

K: classes, N: images.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from balms_seg.annotations import (
    Annotations,
    annotations_of,
    is_counted,
    require_trust,
    warn_once,
)
from balms_seg.wording import agreeing, counted

logger = logging.getLogger(__name__)


def checked_counts(
    name: str, values: np.ndarray, num_classes: int, dtype: DTypeLike = np.int64
) -> np.ndarray:
    """(K,) counts that are not negative, as a copy that cannot be written to."""
    counts = np.array(values, dtype)
    if counts.shape != (num_classes,) or not (counts >= 0).all():
        raise ValueError(
            f"Expected {name} to be ({num_classes},) and not negative, but got shape "
            f"{counts.shape} and minimum {counts.min(initial=0)}."
        )
    counts.setflags(write=False)
    return counts


def checked_labels(labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """(N,) int64 class ids, one an image."""
    given = np.asarray(labels)
    if given.ndim != 1:
        raise ValueError(
            f"Expected labels of shape (N,), one class id an image, but got {given.shape}; pass "
            "labels.flatten() of class ids, labels.argmax(1) of one-hot rows."
        )
    try:
        class_ids = given.astype(np.int64)
    except ValueError:  # of names
        class_ids = None
    if class_ids is None or (class_ids != given).any():
        raise ValueError(
            f"Expected labels to be class ids, whole numbers from 0, but got {given.dtype}, for "
            f"example {given[:3].tolist()}."
        )
    return class_ids


def countable(
    source: str | Path | Annotations, with_masks: bool | None, *, is_trusted: bool
) -> tuple[Annotations, np.ndarray]:
    """Annotations, and which of them can be trained on.

    Args:
        source: the json's path, or what was read from it.
        with_masks: whether masks are learned; None: whether the json has masks.
        is_trusted: whether a file that looks as if it meant something else is taken.
    """
    annotations = annotations_of(source)
    require_trust(annotations, is_trusted=is_trusted)
    if not annotations.facts.has_list:
        raise ValueError(
            f"{annotations.facts.source} has no list named annotations; there is nothing to count."
        )
    warn_once(annotations)
    if with_masks is None:
        with_masks = annotations.has_masks
    return annotations, is_counted(annotations, with_masks=with_masks)


def apply_empty_class_policy(
    class_names: tuple[str, ...], instance_counts: np.ndarray, policy: str
) -> None:
    """Raise ValueError, or warn, where classes have no training sample."""
    empty = tuple(class_names[i] for i in np.flatnonzero(instance_counts == 0))
    if empty and policy == "error":
        raise ValueError(
            f"{len(empty)} of {counted(len(class_names), 'class')} "
            f"{agreeing(len(empty), 'has', 'have')} no training sample: {_abbreviate(empty)}. Add "
            "samples, drop the classes, or use the policy 'floor'."
        )
    if empty and policy == "floor":
        _warn_about_empty_classes(empty, len(class_names))


def checked_names(names: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    """K names; the class ids as text where there are none."""
    if names is None:
        return tuple(str(class_id) for class_id in range(num_classes))
    if len(names) != num_classes:
        raise ValueError(f"Expected {num_classes} class names, but got {len(names)}.")
    return tuple(names)


def checked_repeat_factors(factors: np.ndarray | None, num_images: int) -> np.ndarray | None:
    """(N,) float64 positive factors, or None."""
    if factors is None:
        return None
    factors = np.asarray(factors, np.float64)
    if factors.shape != (num_images,) or not (np.isfinite(factors) & (factors > 0)).all():
        raise ValueError(
            f"Expected ({num_images},) positive repeat factors, one for each image, but got shape "
            f"{factors.shape} and minimum {factors.min(initial=np.inf):g}."
        )
    return factors


@lru_cache(maxsize=64)  # one warning for each set of classes, however often the prior is read
def _warn_about_empty_classes(empty: tuple[str, ...], num_classes: int) -> None:
    logger.warning(
        "%d of %s %s no training sample: %s. Each counts as one sample, and in training is a "
        "negative only.",
        len(empty),
        counted(num_classes, "class"),
        agreeing(len(empty), "has", "have"),
        _abbreviate(empty),
    )


def _abbreviate(names: Sequence[str], limit: int = 20) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
