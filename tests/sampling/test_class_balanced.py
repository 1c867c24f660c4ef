"""Class-balanced sampling against its definition."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from balms_seg.sampling import build_index_stream, compute_class_balanced_factors

# image -> classes; f = (4/6, 2/6, 1/6, 0)
CLASSES = [[0], [0, 1], [], [0, 0], [2, 0], [1, 1]]
FACTORS = [1.5, 3.0, 1.0, 1.5, 6.0, 3.0]
DICTS = [{"annotations": [{"category_id": c} for c in classes]} for classes in CLASSES]


def test_factor_is_the_inverse_frequency_of_the_rarest_class() -> None:
    np.testing.assert_allclose(compute_class_balanced_factors(DICTS, 4), FACTORS, rtol=1e-12)


def test_images_are_drawn_in_proportion_to_their_factors() -> None:
    cfg = SimpleNamespace(DATALOADER=SimpleNamespace(SAMPLER_TRAIN="ClassBalancedTrainingSampler"))
    stream = build_index_stream(cfg, DICTS, num_classes=4, seed=1)
    draws = 30_000
    counts = np.bincount(stream.draw(draws).indices, minlength=6)
    expected = draws * np.array(FACTORS) / np.sum(FACTORS)
    # an epoch's rounding varies each count by less than 1/2; about 5000 epochs
    assert (np.abs(counts - expected) < 5 * 0.5 * np.sqrt(draws / 6)).all()
    assert (np.abs(counts - np.roll(expected, 1)) > 5 * 0.5 * np.sqrt(draws / 6)).any()
