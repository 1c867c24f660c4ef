"""Partial labels: of which classes an image's background is known to be free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def known_classes(record: Mapping[str, Any], num_classes: int) -> Tensor | None:
    """Classes whose objects are all annotated in an image, or that are not in it.

    As LVIS says it: a class is known that is annotated or in "neg_category_ids", and not in
    "not_exhaustive_category_ids". An image without the first list is annotated for all classes.

    Args:
        record: dataset dict, with contiguous category ids.
        num_classes: K.

    Returns:
        (K,) bool; None: all of them.
    """
    absent = record.get("neg_category_ids")
    known = torch.full((num_classes,), absent is None)
    if absent is not None:
        known[list(absent)] = True
        known[[annotation["category_id"] for annotation in record["annotations"]]] = True
    known[list(record.get("not_exhaustive_category_ids", ()))] = False
    return None if known.all() else known
