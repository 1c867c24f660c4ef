"""Boundary IoU: masks are compared along their outlines, where large objects are hard.

Source: Cheng et al. 2021 (arXiv 2103.16562); IoU is the smaller of mask IoU and boundary IoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

from balms_seg.evaluation.lvis.detections import Detections
from balms_seg.evaluation.lvis.overlaps import Overlaps, mask_ious
from balms_seg.progress import with_progress

BAND_PER_DIAGONAL = 0.02


def limit_by_boundaries(
    overlaps: Overlaps,
    detections: Detections,
    annotation_masks: Sequence[dict[str, Any]],
    annotation_keys: np.ndarray,
    *,
    threshold: float,
    is_crowd: np.ndarray,
) -> Overlaps:
    """Replace mask IoU by the smaller of it and boundary IoU, and drop what falls short.

    Args:
        overlaps: pairs with their mask IoU.
        detections: with masks, of which only those in a pair are decoded.
        annotation_masks: compressed RLEs; likewise.
        annotation_keys: (m,) int64, the keys that the pairs share.
        threshold: smallest IoU of a pair.
        is_crowd: (m,) bool, as for `find_overlaps`.
    """
    own_rows = np.unique(overlaps.rows).tolist()
    own = {
        row: boundary_rle(detections.shapes[detections.places[row]])
        for row in with_progress(own_rows, label="boundaries", unit="mask")
    }
    others = {
        column: boundary_rle(annotation_masks[column])
        for column in np.unique(overlaps.columns).tolist()
    }
    order = np.lexsort((overlaps.columns, overlaps.rows))
    rows, columns = overlaps.rows[order], overlaps.columns[order]
    banded = mask_ious(own, others, rows, columns, annotation_keys[columns], is_crowd)
    ious = np.minimum(overlaps.ious[order], banded)
    kept = ious >= threshold
    rows, columns, ious = rows[kept], columns[kept], ious[kept]
    order = np.lexsort((columns, ious, rows))
    return Overlaps(rows[order], columns[order], ious[order])


def boundary_rle(rle: dict[str, Any]) -> dict[str, Any]:
    """The band inside a mask's outline, max(1, round(0.02 * image diagonal)) px wide.

    The image's border counts as outline, as in the reference implementation.
    """
    import cv2

    height, width = rle["size"]
    band_px = max(1, round(BAND_PER_DIAGONAL * float(np.hypot(height, width))))
    mask = mask_utils.decode(rle)
    x, y, w, h = (int(value) for value in mask_utils.toBbox(rle))
    inside = np.ascontiguousarray(mask[y : y + h, x : x + w])
    padded = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    core = cv2.erode(padded, np.ones((3, 3), dtype=np.uint8), iterations=band_px)
    mask[y : y + h, x : x + w] = inside - core[1:-1, 1:-1]
    return mask_utils.encode(np.asfortranarray(mask))
