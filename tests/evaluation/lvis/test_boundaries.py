import cv2
import numpy as np
import pycocotools.mask as mask_utils
import pytest
from lvis_cases import annotation, dataset, detection, random_case

from balms_seg.evaluation import evaluate_lvis
from balms_seg.evaluation.lvis.boundaries import boundary_rle


def reference_boundary(mask: np.ndarray) -> np.ndarray:
    """As the reference implementation does it: the whole image, padded, eroded."""
    height, width = mask.shape
    band_px = max(1, round(0.02 * np.sqrt(height**2 + width**2)))
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    core = cv2.erode(padded, np.ones((3, 3), dtype=np.uint8), iterations=band_px)
    return mask - core[1:-1, 1:-1]


@pytest.mark.parametrize("seed", range(4))
def test_boundary_of_any_mask_equals_the_reference(seed: int) -> None:
    """Blobs with holes that touch the border of the image."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(150, 220)), (0, 0), 8)
    mask = (noise > 0).astype(np.uint8)
    mask[:, :10] = 1
    found = mask_utils.decode(boundary_rle(mask_utils.encode(np.asfortranarray(mask))))
    expected = reference_boundary(mask)
    assert 0 < expected.sum() < mask.sum()
    np.testing.assert_array_equal(found, expected)


def test_band_is_at_least_one_pixel_wide() -> None:
    mask = np.zeros((12, 12), dtype=np.uint8)
    mask[2:9, 3:8] = 1
    ring = mask.copy()
    ring[3:8, 4:7] = 0
    rle = boundary_rle(mask_utils.encode(np.asfortranarray(mask)))
    np.testing.assert_array_equal(mask_utils.decode(rle), ring)


def test_large_object_needs_a_better_outline_for_boundary_ap() -> None:
    """A 50 px square, 2 px off: mask IoU 48/52, boundary IoU 1 / 3 or so with a band of 2 px."""
    content = dataset([annotation(1, 1, [4, 4, 50, 50])])
    found = [detection(1, 1, [6, 4, 50, 50], 0.5)]
    assert evaluate_lvis(content, found, "segm").metrics["AP"] > 0.8
    assert evaluate_lvis(content, found, "boundary").metrics["AP"] < 0.4
    exact = [detection(1, 1, [4, 4, 50, 50], 0.5)]
    assert evaluate_lvis(content, exact, "boundary").metrics["AP"] == pytest.approx(1)


def test_boundary_ap_is_never_above_mask_ap_by_class() -> None:
    content, detections = random_case(0, num_images=8)
    masks = evaluate_lvis(content, detections, "segm")
    boundaries = evaluate_lvis(content, detections, "boundary")
    assert boundaries.metrics["AR"] <= masks.metrics["AR"]
    assert boundaries.metrics["AP"] < masks.metrics["AP"]
