"""Captions above pictures: which side is annotated, which is found, and what the colours mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from balms_seg.evaluation.lvis.ground_truth import FREQUENCY_GROUPS
from balms_seg.report.instance_drawing import GROUP_COLORS_BGR, OTHER_COLOR_BGR

MARGIN_PX = 6
_LINE_PX = 24
_INK = (60, 60, 60)
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45
_SPACE_PX = 10  # between words of different colours


def beside(pair: Sequence[np.ndarray], min_score: float, groups: Iterable[str]) -> np.ndarray:
    """Ground truth and detections of one image side by side, under a caption.

    Args:
        pair: two (H, W, 3) pictures, BGR.
        min_score: of the detections that are drawn.
        groups: frequency letters of the classes, which colours stand for.

    Returns:
        (H + caption, 2 W + margin, 3) BGR.
    """
    gap = np.full((pair[0].shape[0], MARGIN_PX, 3), 255, dtype=np.uint8)
    body = np.concatenate([pair[0], gap, pair[1]], axis=1)
    words = [("annotated", _INK)], [(f"found, score >= {min_score:g}", _INK)]
    sides = _caption(body.shape[1], words)
    return np.concatenate([sides, _caption(body.shape[1], [_legend(groups)]), body], axis=0)


def sheet(tiles: Sequence[np.ndarray], min_score: float, groups: Iterable[str]) -> np.ndarray:
    """Two tiles a row, each with ground truth and detections, under a caption.

    Args:
        tiles: (H, W, 3) pictures of one size, BGR.
        min_score: as for `beside`, and so what follows.
        groups: likewise.
    """
    tiles = [*tiles, *[np.full_like(tiles[0], 255)] * (len(tiles) % 2)]
    rows = [np.concatenate(tiles[i : i + 2], axis=1) for i in range(0, len(tiles), 2)]
    body = np.concatenate(rows, axis=0)
    words = [("annotated", _INK)], [(f"found, score >= {min_score:g}", _INK)]
    captions = [_caption(body.shape[1], [*words, *words])]
    captions.append(_caption(body.shape[1], [_legend(groups)]))
    return np.concatenate([*captions, body], axis=0)


_Words = list[tuple[str, tuple[int, int, int]]]


def _legend(groups: Iterable[str]) -> _Words:
    known = set(groups)
    colors = [(FREQUENCY_GROUPS[one], GROUP_COLORS_BGR[one]) for one in FREQUENCY_GROUPS]
    named = [(name, color) for name, color in colors if name[0] in known]
    return [*named, *[("no group", OTHER_COLOR_BGR)] * bool(known - FREQUENCY_GROUPS.keys())]


def _caption(width: int, columns: Sequence[_Words]) -> np.ndarray:
    """One white line, words of each column from its left on."""
    line = np.full((_LINE_PX, width, 3), 255, dtype=np.uint8)
    for column, words in enumerate(columns):
        x = column * width // len(columns) + MARGIN_PX
        for text, color in words:
            (length, _), _ = cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)
            origin = (x, _LINE_PX - 8)
            cv2.putText(line, text, origin, _FONT, _FONT_SCALE, color, 1, cv2.LINE_AA)
            x += length + _SPACE_PX
    return line
