"""What is annotated of a glyph image: everything, or a part, as in LVIS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Of a class's images the share in which nobody annotated or looked for it. Made up: LVIS does not
# tell what it left out.
HIDDEN_SHARE = 0.3
# Classes an image verified to be absent, and the share of pairs of an image and an annotated class
# that are not exhaustive: means of 100 images of LVIS v0.5's validation set.
_NEGATIVES_PER_IMAGE = 9.42
_NOT_EXHAUSTIVE_SHARE = 0.054


@dataclass(frozen=True)
class ImageLabels:
    """Of one image, class indices.

    Attributes:
        annotated: whose instances are annotated, all of them or, where it is not exhaustive, one.
        negative: verified to be absent.
        not_exhaustive: of the annotated ones.
    """

    annotated: frozenset[int]
    negative: tuple[int, ...]
    not_exhaustive: tuple[int, ...] = ()


def complete_labels(image: list[int], num_classes: int) -> ImageLabels:
    """Every instance is annotated, and every other class is absent."""
    absent = np.delete(np.arange(num_classes), sorted(set(image)))
    return ImageLabels(frozenset(image), tuple(absent.tolist()))


def shown_counts(annotated_counts: np.ndarray) -> np.ndarray:
    """(K,) images that have to show each class, so that `federated_labels` annotates so many."""
    return np.rint(annotated_counts / (1 - HIDDEN_SHARE)).astype(np.int64)


def federated_labels(
    images: list[list[int]], num_classes: int, rng: np.random.Generator
) -> list[ImageLabels]:
    """A part of the classes of each image is annotated, and a few others are verified to be absent.

    Args:
        images: class indices of every instance.
        num_classes: K.
        rng: source of randomness.
    """
    shown = np.zeros((len(images), num_classes), bool)
    for row, image in zip(shown, images, strict=True):
        row[image] = True
    annotated = np.zeros_like(shown)
    for class_index in range(num_classes):
        own = rng.permutation(np.flatnonzero(shown[:, class_index]))
        annotated[own[: round((1 - HIDDEN_SHARE) * len(own))], class_index] = True
    labels = []
    for own, present in zip(annotated, shown, strict=True):
        found, absent = np.flatnonzero(own), np.flatnonzero(~present)
        number = min(int(rng.poisson(_NEGATIVES_PER_IMAGE)), len(absent))
        negative = np.sort(rng.choice(absent, number, replace=False))
        loose = found[rng.random(len(found)) < _NOT_EXHAUSTIVE_SHARE]
        labels.append(
            ImageLabels(frozenset(found.tolist()), tuple(negative.tolist()), tuple(loose.tolist()))
        )
    return labels


def annotated_of(drawn: list[dict], labels: ImageLabels) -> list[dict]:
    """The annotations, of those that were drawn, that the labels keep."""
    kept, seen = [], set()
    for annotation in drawn:
        class_index = annotation["category_id"] - 1
        is_one_too_many = class_index in labels.not_exhaustive and class_index in seen
        if class_index in labels.annotated and not is_one_too_many:
            kept.append(annotation)
        seen.add(class_index)
    return kept
