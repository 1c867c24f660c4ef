"""Pictures of images with lines of text below each, on one sheet."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_LINE_PX = 14  # height of a line of text
_CHARACTER_PX = 6


class Tile(NamedTuple):
    """An image on a sheet.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        lines: of text below it.
        color: of the text.
    """

    pixels: np.ndarray
    lines: Sequence[str]
    color: str = "black"


def draw_sheet(
    tiles: Sequence[Tile], *, tile_px: int = 128, columns: int | None = None
) -> Image.Image:
    """Lay out tiles row by row.

    Args:
        tiles: at least one.
        tile_px: side of the square that an image is fitted into; smaller ones are enlarged.
        columns: tiles of a row; None for about as many as there are rows.
    """
    num_lines = max(len(tile.lines) for tile in tiles)
    height = tile_px + num_lines * _LINE_PX + 4
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    sheet = Image.new("RGB", (columns * tile_px, rows * height), "white")
    draw, font = ImageDraw.Draw(sheet), _font()
    for place, tile in enumerate(tiles):
        left, top = place % columns * tile_px, place // columns * height
        picture = _fitted(tile.pixels, tile_px - 4)
        offset = [(tile_px - side) // 2 for side in picture.size]
        sheet.paste(picture, (left + offset[0], top + offset[1]))
        for number, line in enumerate(tile.lines):
            shown = line[: tile_px // _CHARACTER_PX]
            place_of_text = (left + 3, top + tile_px + number * _LINE_PX)
            draw.text(place_of_text, shown, fill=tile.color, font=font)
    return sheet


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font with letters beyond ASCII, which matplotlib brings; Pillow's own has none."""
    found = importlib.util.find_spec("matplotlib")  # its place alone: importing it takes seconds
    for folder in found.submodule_search_locations or () if found else ():
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), 10)
    return ImageFont.load_default(10)


def _fitted(pixels: np.ndarray, side_px: int) -> Image.Image:
    height, width = pixels.shape[:2]
    scale = side_px / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    # Small images keep their pixels visible.
    method = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
    return Image.fromarray(pixels).resize(size, method)
