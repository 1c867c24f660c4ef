"""Which classes can be judged in which image: LVIS labels each image for some classes only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def federated_rules(
    images: list[dict[str, Any]],
    class_index: Mapping[int, int],
    *,
    positives: tuple[np.ndarray, np.ndarray],
    not_exhaustive: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Which classes are verified and which are not exhaustively annotated, both (I, K) bool.

    Args:
        images: I entries of the json; without neg_category_ids, every class that is neither
            annotated nor not exhaustive counts as verified absent.
        class_index: index in [0, K) per category id; other ids in the lists are passed over.
        positives: image and class indices of the annotations.
        not_exhaustive: image and class indices of annotations that cannot be used.
    """

    def known(ids: Iterable[int]) -> list[int]:
        return [class_index[category_id] for category_id in ids if category_id in class_index]

    is_positive = np.zeros((len(images), len(class_index)), dtype=bool)
    is_positive[positives] = True
    is_not_exhaustive = np.zeros_like(is_positive)
    is_not_exhaustive[not_exhaustive] = True
    is_negative = ~is_positive & ~is_not_exhaustive  # the default for absent lists
    for row, image in enumerate(images):
        if "neg_category_ids" in image:
            is_negative[row] = False
            is_negative[row, known(image["neg_category_ids"])] = True
        is_not_exhaustive[row, known(image.get("not_exhaustive_category_ids", ()))] = True
    return is_positive | is_negative, is_not_exhaustive
