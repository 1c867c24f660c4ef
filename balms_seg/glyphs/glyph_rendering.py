"""Draws one image of the glyph data set: background, clutter, glyphs, noise."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from balms_seg.glyphs.glyph_outlines import faces_with, fill_rings, glyph_rings, signed_area

UNIT = 16  # polygon coordinates are multiples of 1/16 px
_SUPERSAMPLING = 8
_TRIES_PER_SCALE = 40
_SHRINK = 0.88
_ATTEMPTS = 6
_CALMER = 0.75  # by how much glyphs are smaller from one attempt at an image to the next
_LEAST_SIDE_PX = 9.0
_GAP_PX = 1
_LEAST_CONTRAST = 95.0  # Euclidean RGB distance between a glyph and what lies behind it


@dataclass(frozen=True)
class GlyphInstance:
    """A drawn glyph: class index and rings (n, 2) int64 in 1/16 px, x then y."""

    class_index: int
    rings: tuple[np.ndarray, ...]

    def annotation(self) -> dict:
        """Segmentation, bbox (x, y, w, h) and area in pixels, as COCO and LVIS have them."""
        points = np.concatenate(self.rings)
        low, high = points.min(0), points.max(0)
        return {
            "segmentation": [(ring / UNIT).ravel().tolist() for ring in self.rings],
            "bbox": [*(low / UNIT).tolist(), *((high - low) / UNIT).tolist()],
            "area": sum(abs(signed_area(ring)) for ring in self.rings) / UNIT**2,
        }


def render_image(
    characters: Sequence[str],
    class_indices: Sequence[int],
    size: int,
    faces: str,
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[GlyphInstance], np.ndarray]:
    """Draw glyphs that do not touch each other on a cluttered background.

    Args:
        characters: the character of every class.
        class_indices: classes to draw, one entry an instance.
        size: side of the image in pixels.
        faces: "bold" or "all".
        rng: everything random comes from here.

    Returns:
        Image (size, size, 3) uint8 BGR, instances in the order of `class_indices`, and masks
        (N, size, size) bool of the pixels that each glyph covers by half or more.

    Raises:
        ValueError: the glyphs do not fit into the image.
    """
    for attempt in range(_ATTEMPTS):
        drawn = _draw(characters, class_indices, size * _CALMER**attempt, size, faces, rng)
        if drawn is not None:
            return drawn
    raise ValueError(
        f"No room for {len(class_indices)} glyphs in an image of {size} px; ask for a greater "
        "size or fewer instances per image."
    )


def _draw(
    characters: Sequence[str],
    class_indices: Sequence[int],
    reference_px: float,
    size: int,
    faces: str,
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[GlyphInstance], np.ndarray] | None:
    """One attempt with glyphs of 0.19 to 0.40 of `reference_px`; None where they do not fit."""
    image = cluttered_background(size, rng)
    occupied = np.zeros((size, size), bool)
    instances: dict[int, GlyphInstance] = {}
    masks = np.zeros((len(class_indices), size, size), bool)
    sides = np.exp(rng.uniform(math.log(0.19), math.log(0.40), len(class_indices)))
    sides = np.maximum(sides * reference_px, _LEAST_SIDE_PX)
    for index in np.argsort(-sides, kind="stable").tolist():
        character = characters[class_indices[index]]
        placed = _place(character, sides[index], faces, occupied, rng)
        if placed is None:
            return None
        rings, coverage = placed
        instances[index] = GlyphInstance(class_indices[index], rings)
        masks[index] = coverage >= 0.5
        _paint(image, coverage, rng)
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (3, 3), 0.6)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(2, 11))
    image = np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
    return image, [instances[i] for i in range(len(class_indices))], masks


def cluttered_background(size: int, rng: np.random.Generator) -> np.ndarray:
    """What objects are put on, (size, size, 3) uint8."""
    image = _background(size, rng)
    _draw_clutter(image, rng)
    return image


def _color(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> np.ndarray:
    """A random colour (3,) float64 in 0..255."""
    hsv = rng.random(), rng.uniform(*saturation), rng.uniform(*value)
    return np.array(colorsys.hsv_to_rgb(*hsv)) * 255


def _background(size: int, rng: np.random.Generator) -> np.ndarray:
    """A gradient between two colours with soft blotches."""
    angle = rng.uniform(0, 2 * math.pi)
    axis = (np.arange(size) + 0.5) / size - 0.5
    ramp = axis[:, None] * math.sin(angle) + axis[None] * math.cos(angle) + 0.5
    ramp = np.clip(ramp, 0, 1)[..., None]
    start = _color(rng, (0.0, 0.55), (0.15, 1.0))
    end = np.clip(start + rng.uniform(-70, 70, 3), 0, 255)
    cells = int(rng.integers(3, 8))
    grid = rng.uniform(-1, 1, (cells, cells)) * rng.uniform(4, 26)
    at = np.linspace(0, cells - 1, size)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells)[None]))
    image = start + (end - start) * ramp + (weights @ grid @ weights.T)[..., None]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _draw_clutter(image: np.ndarray, rng: np.random.Generator) -> None:
    """Strokes, arcs, blobs and polygons that are no glyphs, under the glyphs."""
    size = len(image)
    for _ in range(int(rng.integers(2, 9))):
        layer = image.copy()
        color = _color(rng, (0.1, 0.9), (0.1, 1.0)).tolist()
        kind = int(rng.integers(5))
        width = max(1, round(rng.uniform(0.008, 0.035) * size))
        center = rng.integers(0, size, 2)
        radius = rng.uniform(0.04, 0.16, 2) * size
        axes = tuple(int(r) + 1 for r in radius)
        turn = float(rng.integers(0, 360))
        if kind == 0:
            end = rng.integers(0, size, 2)
            cv2.line(layer, center.tolist(), end.tolist(), color, width, cv2.LINE_AA)
        elif kind == 1:
            sweep = float(rng.integers(60, 270))
            cv2.ellipse(layer, center.tolist(), axes, turn, 0, sweep, color, width, cv2.LINE_AA)
        elif kind == 2:
            steps = rng.normal(0, 0.09 * size, (5, 2)).cumsum(0) + center
            points = [np.rint(steps).astype(np.int32)]
            cv2.polylines(layer, points, False, color, width, cv2.LINE_AA)
        elif kind == 3:
            cv2.ellipse(layer, center.tolist(), axes, turn, 0, 360, color, -1, cv2.LINE_AA)
        else:
            angles = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 7))))
            corners = center + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
            cv2.fillPoly(layer, [np.rint(corners).astype(np.int32)], color, cv2.LINE_AA)
        opacity = rng.uniform(0.35, 0.9)
        blended = image + (layer.astype(np.float64) - image) * opacity
        image[:] = np.rint(blended).astype(np.uint8)


def _affine(side: float, rng: np.random.Generator) -> np.ndarray:
    """Rotation by up to 22 degrees, shear, aspect and scale as a (2, 2) matrix."""
    angle = math.radians(rng.uniform(-22, 22))
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shear = np.array([[1, rng.uniform(-0.2, 0.2)], [0, 1]])
    aspect = math.exp(rng.uniform(-0.16, 0.16))
    return rotation @ shear @ np.diag([aspect, 1 / aspect]) * side


def _place(
    character: str,
    side: float,
    faces: str,
    occupied: np.ndarray,
    rng: np.random.Generator,
) -> tuple[tuple[np.ndarray, ...], np.ndarray] | None:
    """Find room for a glyph, shrinking it where there is none, and mark it occupied.

    Returns:
        Rings in 1/16 px and the coverage (size, size) float64 in [0, 1]; None where even a glyph
        of the least side finds no room.
    """
    size = len(occupied)
    available = faces_with(character, faces)
    outline = glyph_rings(character, available[int(rng.integers(len(available)))])
    shape = _affine(1.0, rng)
    while side >= _LEAST_SIDE_PX:
        rings = _to_grid(outline, shape * side, rng)
        coverage = _coverage(rings)
        height, width = coverage.shape
        blocked = _dilate(coverage > 0, _GAP_PX)
        if max(height, width) < size:
            for _ in range(_TRIES_PER_SCALE):
                x, y = (int(rng.integers(size - extent + 1)) for extent in (width, height))
                window = occupied[y : y + height, x : x + width]
                if not (window & blocked).any():
                    window |= blocked
                    full = np.zeros((size, size))
                    full[y : y + height, x : x + width] = coverage
                    return tuple(r + np.array([x, y]) * UNIT for r in rings), full
        side *= _SHRINK
    return None


def _to_grid(
    outline: tuple[np.ndarray, ...], matrix: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    """Transformed rings on the 1/16 px grid at a random sub-pixel offset, inside a 1 px margin."""
    rings = [np.rint(ring @ matrix.T * UNIT).astype(np.int64) for ring in outline]
    low = np.concatenate(rings).min(0)
    offset = rng.integers(0, UNIT, 2) + UNIT - low
    rings = [_drop_repeats(ring + offset) for ring in rings]
    return [ring for ring in rings if len(ring) >= 3 and signed_area(ring) != 0]


def _drop_repeats(ring: np.ndarray) -> np.ndarray:
    """Remove points equal to the one before."""
    return ring[(ring != np.roll(ring, 1, axis=0)).any(1)]


def _coverage(rings: list[np.ndarray]) -> np.ndarray:
    """Share of each pixel that the rings cover, (h, w) float64, with a 1 px margin."""
    factor = _SUPERSAMPLING
    width, height = (np.concatenate(rings).max(0) // UNIT + 2).tolist()
    # A pixel's centre has integer coordinates in OpenCV and half-integer ones in COCO polygons.
    fine = [ring * factor - UNIT // 2 for ring in rings]
    filled = fill_rings(fine, (height * factor, width * factor), shift=4)
    rows = filled.reshape(height, factor, width * factor).sum(1, dtype=np.uint8)
    return rows.reshape(height, width, factor).sum(2, dtype=np.float64) / factor**2


def _dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    side = 2 * radius + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool)


def _paint(image: np.ndarray, coverage: np.ndarray, rng: np.random.Generator) -> None:
    """Blend a glyph in a colour that stands out from what lies behind it."""
    behind = image[coverage >= 0.5].mean(0) if (coverage >= 0.5).any() else image.mean((0, 1))
    best, best_contrast = behind, -1.0
    for _ in range(20):
        color = _color(rng, (0.0, 1.0), (0.05, 1.0))
        contrast = float(np.linalg.norm(color - behind))
        if contrast > best_contrast:
            best, best_contrast = color, contrast
        if contrast >= _LEAST_CONTRAST:
            break
    ys, xs = np.nonzero(coverage)
    alpha = coverage[ys, xs][:, None]
    image[ys, xs] = np.rint(image[ys, xs] * (1 - alpha) + best * alpha).astype(np.uint8)
