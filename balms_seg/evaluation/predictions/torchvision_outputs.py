"""Detections as torchvision's models give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

_MASK_THRESHOLD = 0.5  # as torchvision's reference evaluation takes it


def torchvision_detections(
    output: Mapping[str, Any], image_id: Any, class_ids: Mapping[Any, int]
) -> list[dict[str, Any]]:
    """One image's detections in the LVIS results format, with contiguous class ids.

    Args:
        output: tensors "boxes" (N, 4) with corners in px, "labels" (N,) the json's category ids,
            as torchvision's reference scripts have them, "scores" (N,) and, if masks are predicted,
            "masks" (N, 1, H, W) or (N, H, W), as probabilities or bools, of the image's size.
        image_id: as in the json.
        class_ids: contiguous class id per category id.

    Raises:
        ValueError: a part is missing, or a label is no category of the json.
    """
    missing = [key for key in ("boxes", "labels", "scores") if key not in output]
    if missing:
        raise ValueError(
            f"Expected predictions with 'instances', or torchvision's with boxes, labels and "
            f"scores, but image {image_id!r} has {sorted(output)}."
        )
    corners, labels, scores = (
        output[key].detach().cpu().numpy() for key in ("boxes", "labels", "scores")
    )
    unknown = sorted(set(labels.tolist()) - set(class_ids))
    if unknown:
        raise ValueError(
            f"Expected labels to be category ids of the json, but image {image_id!r} has "
            f"{unknown[:5]}; torchvision's label 0 is background, train with the json's ids."
        )
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    detections = [
        {"image_id": image_id, "category_id": class_ids[label], "bbox": box, "score": score}
        for label, box, score in zip(labels.tolist(), boxes.tolist(), scores.tolist(), strict=True)
    ]
    if "masks" in output:
        masks = output["masks"].detach().cpu().numpy()
        masks = masks.reshape(len(detections), *masks.shape[-2:]) > _MASK_THRESHOLD
        for found, mask in zip(detections, masks, strict=True):
            rle = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
            found["segmentation"] = {**rle, "counts": rle["counts"].decode()}
    return detections
