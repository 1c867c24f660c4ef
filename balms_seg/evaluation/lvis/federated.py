"""Which classes can be judged in which image: LVIS labels each image for some classes only."""

from __future__ import annotations

import numpy as np

from balms_seg.annotations import Annotations
from balms_seg.annotations.arrays import Ragged


def federated_rules(
    annotations: Annotations, *, positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which classes are verified and which are not exhaustively annotated, both (I, K) bool.

    In an image without `neg_category_ids` every class without any annotation is verified absent.

    Args:
        annotations: of the json.
        positive: (n,) int64 places of the annotations that are evaluated.
    """
    table = annotations.image_table
    shape = (len(table), annotations.num_classes)
    is_positive, is_annotated = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    is_positive[annotations.images[positive], annotations.classes[positive]] = True
    is_annotated[annotations.images, annotations.classes] = True
    is_negative = ~is_annotated
    is_negative[table.has_negatives] = False
    is_negative[_pairs_of(table.negatives)] = True
    is_not_exhaustive = np.zeros(shape, dtype=bool)
    is_not_exhaustive[_pairs_of(table.not_exhaustive)] = True
    return is_positive | is_negative, is_not_exhaustive


def _pairs_of(lists: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """Image and class of each entry of one list an image."""
    return np.repeat(np.arange(len(lists)), lists.lengths), lists.values
