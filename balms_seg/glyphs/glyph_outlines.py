"""Outlines of letters and signs, from the fonts that matplotlib ships.

A glyph's outline is a list of rings. Each ring is one outer contour with its holes linked in by
zero-width bridges, because COCO polygons cannot have holes. Fonts come from matplotlib's own data
folder only, so that the shapes do not depend on what a machine has installed.
"""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from balms_seg.glyphs.glyph_alphabet import PREFERRED, is_candidate
from balms_seg.requirements import require

BOLD_FACES = (
    "DejaVuSans-Bold",
    "DejaVuSans-BoldOblique",
    "DejaVuSerif-Bold",
    "DejaVuSerif-BoldItalic",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-BoldOblique",
    "STIXGeneralBol",
    "STIXGeneralBolIta",
    "cmb10",
)
REGULAR_FACES = (
    "DejaVuSans",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Italic",
    "DejaVuSansMono",
    "DejaVuSansMono-Oblique",
    "STIXGeneral",
    "STIXGeneralItalic",
    "cmr10",
    "cmss10",
    "cmti10",
    "cmtt10",
)
FACE_SETS = {"bold": BOLD_FACES, "all": BOLD_FACES + REGULAR_FACES}

_SIGNATURE = 24  # side of the raster by which look-alikes are found
_ALIKE = 0.86  # two glyphs whose rasters overlap (IoU) more than this count as one
_NARROWEST = 0.22  # ratio of sides below which a glyph could be a stroke of the clutter
_FULLEST = 0.85  # share of its box above which it could be a blob


def import_matplotlib() -> ModuleType:
    """matplotlib, or a ModuleNotFoundError that says how to get it."""
    matplotlib = require("matplotlib", "The glyph data set")
    for module in ("font_manager", "path", "textpath"):
        require(f"matplotlib.{module}", "The glyph data set")
    return matplotlib


@functools.cache
def _font_file(face: str) -> Path:
    matplotlib = import_matplotlib()
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    if not path.is_file():
        raise FileNotFoundError(
            f"matplotlib {matplotlib.__version__} ships no font {face}: expected {path}. "
            "Reinstall matplotlib from the package index."
        )
    return path


@functools.cache
def _characters(face: str) -> frozenset[str]:
    """Characters of a face; the Computer Modern faces order their signs differently."""
    font = import_matplotlib().font_manager.get_font(_font_file(face))
    characters = frozenset(map(chr, font.get_charmap()))
    if face.startswith("cm"):
        return frozenset(c for c in characters if c.isascii() and c.isalnum())
    return characters


@functools.cache
def faces_with(character: str, faces: str) -> tuple[str, ...]:
    """Faces of the set `faces` ("bold" or "all") that draw a usable outline of `character`."""
    return tuple(f for f in FACE_SETS[faces] if glyph_rings(character, f))


def category_name(character: str) -> str:
    """Letters and digits name themselves; other signs go by their Unicode name."""
    if character.isascii() and character.isalnum():
        return character
    return unicodedata.name(character).lower().replace(" ", "_").replace("-", "_")


@functools.cache
def glyph_rings(character: str, face: str) -> tuple[np.ndarray, ...]:
    """The outline of a character as rings with bridged holes.

    Args:
        character: one character.
        face: file stem of a font that matplotlib ships, such as "DejaVuSans-Bold".

    Returns:
        Rings, each (n, 2) float64 with y downwards, the whole glyph centred on the origin with its
        longer side 1. Empty where the face lacks the character, the glyph is blank, or its
        contours overlap, so that rings would not describe its area exactly.
    """
    if character not in _characters(face):
        return ()
    contours = _contours(character, face)
    if not contours:
        return ()
    points = np.concatenate(contours)
    low, high = points.min(0), points.max(0)
    scale = (high - low).max()
    contours = [(c - (low + high) / 2) / scale * (1, -1) for c in contours]
    rings = _bridge_holes(contours)
    if rings is None or not _is_simple(rings):
        return ()
    return tuple(rings)


def _contours(character: str, face: str) -> list[np.ndarray]:
    """Flattened closed contours (n, 2) in font units with y upwards; specks are left out."""
    matplotlib = import_matplotlib()
    # What TextPath draws with; TextPath itself fails on blank characters.
    converter = matplotlib.textpath.TextToPath()
    font = matplotlib.font_manager.FontProperties(fname=_font_file(face))
    vertices, codes = converter.get_text_path(font, character)
    if len(codes) == 0:
        return []
    path = matplotlib.path.Path(vertices, codes)
    path.should_simplify = False
    contours = [c[:-1] for c in path.to_polygons(closed_only=True) if len(c) > 3]
    return [c for c in contours if abs(signed_area(c)) > 1e-3 * converter.FONT_SCALE**2]


def signed_area(ring: np.ndarray) -> float:
    """Shoelace area of a closed ring (n, 2); the sign tells its orientation."""
    x, y = ring[:, 0], ring[:, 1]
    return float(0.5 * (np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


def _bridge_holes(contours: list[np.ndarray]) -> list[np.ndarray] | None:
    """Link each hole to the outer contour round it; None where a hole has none."""
    areas = np.array([signed_area(c) for c in contours])
    outward = np.sign(areas[np.abs(areas).argmax()])
    rings = [c for c, a in zip(contours, areas, strict=True) if a * outward > 0]
    holes: list[list[np.ndarray]] = [[] for _ in rings]
    for contour, area in zip(contours, areas, strict=True):
        if area * outward > 0:
            continue
        around = [i for i, ring in enumerate(rings) if contains(ring, contour[0])]
        if not around:
            return None
        holes[min(around, key=lambda i: abs(signed_area(rings[i])))].append(contour)
    return [_bridge(ring, inner) for ring, inner in zip(rings, holes, strict=True)]


def _bridge(ring: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """Insert holes into a ring, always the nearest one next, by a bridge there and back.

    The shortest of all bridges crosses no other contour, since what it crossed would be nearer.
    """
    remaining = list(holes)
    while remaining:
        distances = [((ring[:, None] - h[None]) ** 2).sum(-1) for h in remaining]
        nearest = min(range(len(remaining)), key=lambda i: distances[i].min())
        at_ring, at_hole = divmod(int(distances[nearest].argmin()), len(remaining[nearest]))
        hole = np.roll(remaining.pop(nearest), -at_hole, axis=0)
        ring = np.concatenate([ring[: at_ring + 1], hole, hole[:1], ring[at_ring:]])
    return ring


def contains(ring: np.ndarray, point: np.ndarray) -> bool:
    """Whether a point (2,) lies inside a ring (n, 2), by the even-odd rule."""
    x, y = ring[:, 0], ring[:, 1]
    x_next, y_next = np.roll(x, -1), np.roll(y, -1)
    crosses = (y > point[1]) != (y_next > point[1])
    slope = (x_next - x) / np.where(crosses, y_next - y, 1.0)
    return bool(np.count_nonzero(crosses & (point[0] < x + (point[1] - y) * slope)) % 2)


def fill_rings(rings: list[np.ndarray], shape: tuple[int, int], shift: int) -> np.ndarray:
    """Union of rings in fixed point (`shift` fractional bits) as uint8 0 and 1 of `shape`."""
    canvas = np.zeros(shape, np.uint8)
    for ring in rings:
        cv2.fillPoly(canvas, [ring.astype(np.int32)], 1, shift=shift)
    return canvas


def _is_simple(rings: list[np.ndarray]) -> bool:
    """Whether the filled area is the rings' area, so that no contours overlap."""
    side = 256
    filled = fill_rings(
        [np.rint((r + 0.5) * side * 16) for r in rings], (side + 1,) * 2, shift=4
    ).sum()
    outline = sum(np.hypot(*(np.roll(r, -1, axis=0) - r).T).sum() for r in rings) * side
    area = sum(abs(signed_area(r)) for r in rings) * side**2
    # fillPoly also paints the pixels that the outline passes through.
    return abs(filled - area) < 0.02 * area + 1.5 * outline


def _looks_like_clutter(character: str) -> bool:
    rings = glyph_rings(character, "DejaVuSans-Bold")
    width, height = np.ptp(np.concatenate(rings), axis=0)
    area = sum(abs(signed_area(r)) for r in rings)
    return min(width, height) < _NARROWEST or area > _FULLEST * width * height


def _signature(character: str) -> np.ndarray:
    rings = glyph_rings(character, "DejaVuSans-Bold")
    scale = 16 * (_SIGNATURE - 1)
    filled = fill_rings([np.rint((r + 0.5) * scale) for r in rings], (_SIGNATURE,) * 2, shift=4)
    return filled.ravel().astype(np.float32)


@functools.lru_cache(maxsize=8)
def choose_characters(num_classes: int) -> tuple[str, ...]:
    """A fixed list of distinct characters: a hand-picked start, then all that DejaVu Sans Bold has.

    Blank characters, combining marks, box drawing, Braille, plain strokes and blobs, and anything
    that looks nearly the same as an earlier character are left out.

    Raises:
        ValueError: there are fewer than `num_classes` such characters.
    """
    chosen = list(PREFERRED[:num_classes])
    if num_classes <= len(PREFERRED):
        return tuple(chosen)
    candidates = sorted(c for c in _characters("DejaVuSans-Bold") if is_candidate(c))
    signatures = np.zeros((num_classes, _SIGNATURE**2), np.float32)
    signatures[: len(chosen)] = [_signature(c) for c in chosen]
    sizes = signatures.sum(1)
    for character in candidates:
        if len(chosen) == num_classes:
            break
        if character in PREFERRED or not glyph_rings(character, "DejaVuSans-Bold"):
            continue
        if _looks_like_clutter(character):
            continue
        signature = _signature(character)
        overlap = signatures[: len(chosen)] @ signature
        union = sizes[: len(chosen)] + signature.sum() - overlap
        if (overlap > _ALIKE * union).any():
            continue
        signatures[len(chosen)], sizes[len(chosen)] = signature, signature.sum()
        chosen.append(character)
    if len(chosen) < num_classes:
        raise ValueError(
            f"Expected at most {len(chosen)} classes, the number of distinct glyphs in "
            f"DejaVu Sans Bold, but got {num_classes}; ask for fewer classes."
        )
    return tuple(chosen)
