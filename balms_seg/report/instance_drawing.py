"""Instances drawn over an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_utils

from balms_seg.class_statistics.frequency_groups import GROUP_COLORS
from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS
from balms_seg.evaluation.lvis.masks import segmentation_to_rle

_OPACITY = 0.45
# Of the frequency groups.
GROUP_COLORS_BGR = {
    letter: color[::-1] for letter, color in zip(FREQUENCY_GROUPS, GROUP_COLORS, strict=True)
}
OTHER_COLOR_BGR = (120, 120, 120)


def draw_instances(
    pixels: np.ndarray,
    instances: Sequence[Mapping[str, Any]],
    categories: Mapping[int, Mapping[str, Any]],
    *,
    scale: float = 1.0,
    focus: Mapping[str, Any] | None = None,
    with_group: bool = False,
) -> np.ndarray:
    """Masks, outlines and names over an enlarged image.

    Args:
        pixels: (H, W, 3) BGR.
        instances: annotations or detections: category_id, bbox (xywh, px), segmentation, score.
        categories: entries of the json per category id.
        scale: pixels of the result per pixel of the image.
        focus: the one instance to fill and label; the others are outlined only. None: all.
        with_group: say the frequency group in the label.

    Returns:
        (round(H * scale), round(W * scale), 3) BGR.
    """
    height, width = pixels.shape[:2]
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    canvas = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    labels = []
    for instance in sorted(instances, key=lambda one: one is focus):
        category = categories[instance["category_id"]]
        color = GROUP_COLORS_BGR.get(category.get("frequency", ""), OTHER_COLOR_BGR)
        decoded = _decode(instance, height, width).astype(np.uint8)
        mask = cv2.resize(decoded, size, interpolation=cv2.INTER_NEAREST)
        if focus is None or instance is focus:
            blended = (1 - _OPACITY) * canvas + _OPACITY * np.array(color)
            canvas = np.where(mask[:, :, None] > 0, blended, canvas).astype(np.uint8)
            corner = [value * scale for value in _corner(instance, decoded)]
            labels.append((_label(instance, category, with_group=with_group), corner, color))
        outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, color, 1, cv2.LINE_AA)
    for text, corner, color in labels:  # last, so that no mask covers a name
        _write_label(canvas, text, corner, color)
    return canvas


def _label(instance: Mapping[str, Any], category: Mapping[str, Any], *, with_group: bool) -> str:
    text = str(category["name"])
    if with_group and category.get("frequency") in FREQUENCY_GROUPS:
        text += f" ({FREQUENCY_GROUPS[category['frequency']]})"
    if "score" in instance:
        percent = 100 * instance["score"]
        text += f" {percent:.0f}%" if percent >= 1 else f" {percent:.1g}%"
    # OpenCV crashes on half of a surrogate pair, which json can hold.
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _corner(instance: Mapping[str, Any], mask: np.ndarray) -> list[float]:
    """X and y of the upper left corner in px: of the box, or of the mask where there is none."""
    if instance.get("bbox") is not None:
        return instance["bbox"][:2]
    rows, columns = np.nonzero(mask)
    return [float(columns.min(initial=mask.shape[1])), float(rows.min(initial=mask.shape[0]))]


def _write_label(
    canvas: np.ndarray, text: str, corner: list[float], color: tuple[int, int, int]
) -> None:
    """White text on the class's colour at a box's upper left corner (px), moved into the image."""
    font, font_scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    (width, height), baseline = cv2.getTextSize(text, font, font_scale, 1)
    x = int(np.clip(corner[0], 0, max(canvas.shape[1] - width - 2, 0)))
    y = int(np.clip(corner[1], height + baseline, canvas.shape[0]))
    cv2.rectangle(canvas, (x, y - height - baseline), (x + width + 2, y), color, cv2.FILLED)
    origin = (x + 1, y - baseline + 1)
    cv2.putText(canvas, text, origin, font, font_scale, (255, 255, 255), 1, cv2.LINE_AA)


def _decode(instance: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    """(H, W) bool mask of polygons or RLE; the box where there is neither."""
    segmentation = instance.get("segmentation")
    if not segmentation:
        x, y, w, h = (round(value) for value in instance["bbox"])
        mask = np.zeros((height, width), dtype=bool)
        mask[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = True
        return mask
    return mask_utils.decode(segmentation_to_rle(segmentation, (height, width))).astype(bool)
