"""Glyphs as they are drawn: exact polygons, masks that agree, as many shapes as classes."""

import cv2
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the glyph data set draws matplotlib's fonts")

import matplotlib
from pycocotools import mask as coco_mask

from balms_seg.glyphs import glyph_outlines
from balms_seg.glyphs.glyph_alphabet import PREFERRED
from balms_seg.glyphs.glyph_dataset import GlyphConfig
from balms_seg.glyphs.glyph_outlines import (
    category_name,
    choose_characters,
    contains,
    glyph_rings,
    signed_area,
)
from balms_seg.glyphs.glyph_plan import keyed_generator
from balms_seg.glyphs.glyph_rendering import render_image

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def _decode(segmentation: list[list[float]], size: int) -> np.ndarray:
    runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, size, size))
    return coco_mask.decode(runs).astype(bool)


def _random_instances(count: int, faces: str) -> list[tuple]:
    """(annotation, mask) of glyphs drawn in `count` images."""
    characters = PREFERRED
    drawn = []
    for index in range(count):
        rng = keyed_generator(7, 0, index)
        classes = rng.integers(0, len(characters), 5).tolist()
        _, instances, masks = render_image(characters, classes, 128, faces, rng)
        drawn += [(i.annotation(), m) for i, m in zip(instances, masks, strict=True)]
    return drawn


# Shapes


@pytest.mark.parametrize("face", ["DejaVuSans-Bold", "STIXGeneral", "cmb10"])
def test_holes_are_outside_the_ring(face: str) -> None:
    (ring,) = glyph_rings("B", face)
    width, height = np.ptp(ring, axis=0)
    assert max(width, height) == pytest.approx(1)
    on_stem = contains(ring, np.array([ring[:, 0].min() + 0.25 * width, 0.0]))
    holes = [contains(ring, np.array([0.02, y])) for y in (-0.25, 0.25)]
    assert on_stem
    assert holes == [False, False]


def test_ring_area_is_the_outer_contour_less_its_holes() -> None:
    contours = glyph_outlines._contours("8", "DejaVuSans-Bold")
    rings = glyph_rings("8", "DejaVuSans-Bold")
    scale = np.ptp(np.concatenate(contours), axis=0).max()
    areas = sorted((abs(signed_area(c)) for c in contours), reverse=True)
    assert len(contours) == 3
    assert len(rings) == 1
    assert abs(signed_area(rings[0])) * scale**2 == pytest.approx(areas[0] - sum(areas[1:]))


@pytest.mark.parametrize("character", PREFERRED)
def test_filled_rings_are_the_fonts_own_rendering(character: str) -> None:
    """Against matplotlib's rasteriser, which fills the untouched path by the nonzero rule."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.path import Path as Outline
    from matplotlib.transforms import Affine2D

    side = 200
    for face in glyph_outlines.faces_with(character, "all"):
        font = matplotlib.font_manager.FontProperties(fname=glyph_outlines._font_file(face))
        outline = Outline(*matplotlib.textpath.TextToPath().get_text_path(font, character))
        box = outline.get_extents()
        scale = (side - 20) / max(box.width, box.height)
        center = Affine2D().translate(-(box.x0 + box.x1) / 2, -(box.y0 + box.y1) / 2)
        renderer = RendererAgg(side, side, 72)
        graphics = renderer.new_gc()
        graphics.set_linewidth(0)
        placed = center.scale(scale).translate(side / 2, side / 2)
        renderer.draw_path(graphics, outline, placed, (0.0, 0.0, 0.0))
        expected = np.asarray(renderer.buffer_rgba())[..., 3] > 127
        rings = [ring * (side - 20) + side / 2 for ring in glyph_rings(character, face)]
        filled = _decode([ring.ravel().tolist() for ring in rings], side)
        assert (filled & expected).sum() / (filled | expected).sum() > 0.96, face


def test_polygons_decode_to_the_rendered_masks() -> None:
    overlaps = []
    for annotation, mask in _random_instances(40, "bold"):
        decoded = _decode(annotation["segmentation"], 128)
        overlaps.append((decoded & mask).sum() / (decoded | mask).sum())
        assert annotation["area"] == pytest.approx(mask.sum(), rel=0.15)
    assert min(overlaps) > 0.85
    assert np.mean(overlaps) > 0.95


def test_thin_faces_agree_too() -> None:
    overlaps = []
    for annotation, mask in _random_instances(20, "all"):
        decoded = _decode(annotation["segmentation"], 128)
        overlaps.append((decoded & mask).sum() / (decoded | mask).sum())
    assert np.mean(overlaps) > 0.92


def test_the_glyph_is_where_its_mask_says() -> None:
    """The same image drawn with and without its glyphs differs under the masks."""
    rng = keyed_generator(3, 0, 0)
    image, _, masks = render_image(PREFERRED, [0, 5, 9], 128, "bold", rng)
    for mask in masks:
        ring = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & ~mask
        ring &= ~masks.any(0)
        inside, outside = (np.median(image[region], axis=0) for region in (mask, ring))
        assert np.linalg.norm(inside - outside) > 40


def test_glyphs_do_not_overlap_and_stay_inside() -> None:
    for index in range(20):
        rng = keyed_generator(1, 0, index)
        _, instances, masks = render_image(PREFERRED, [1, 2, 3, 4, 5, 6], 128, "bold", rng)
        assert masks.sum(0).max() == 1
        for instance in instances:
            points = np.concatenate(instance.rings) / 16
            assert points.min() >= 1
            assert points.max() <= 127


@pytest.mark.parametrize(("size", "crowd"), [(32, 2), (40, 4), (64, 10), (128, 40)])
def test_the_greatest_allowed_crowd_fits(size: int, crowd: int) -> None:
    GlyphConfig(size=size, instances_per_image=(crowd, crowd)).resolved()
    for index in range(5):
        rng = keyed_generator(0, 0, index)
        _, instances, masks = render_image(PREFERRED, range(crowd), size, "bold", rng)
        assert len(instances) == crowd
        assert masks.any((1, 2)).all()


# The alphabet


def test_a_thousand_classes_are_distinct() -> None:
    characters = choose_characters(1000)
    assert characters[: len(PREFERRED)] == tuple(PREFERRED)
    assert len({category_name(c) for c in characters}) == 1000
    outlines = {
        b"".join(np.rint(r * 100).tobytes() for r in glyph_rings(c, "DejaVuSans-Bold"))
        for c in characters
    }
    assert len(outlines) == 1000


def test_more_classes_than_glyphs_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expected at most .* classes"):
        choose_characters(100_000)


def test_result_depends_on_the_seed() -> None:
    images = [
        render_image(PREFERRED, [0, 1], 64, "bold", keyed_generator(seed, split, index))[0]
        for seed, split, index in [(0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    assert (images[0] == images[1]).all()
    assert all((images[0] != other).any() for other in images[2:])
