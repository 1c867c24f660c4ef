"""Samplers of the field against their definitions, written out for six images."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from balms_seg.class_statistics.repeat_threshold import threshold_that_repeats
from balms_seg.sampling import (
    SAMPLER_REGISTRY,
    IndexStream,
    InstanceAwareRepeatFactorTrainingSampler,
    build_index_stream,
    expected_repeats,
)

K = 4
CLASSES = [[0], [0, 1], [], [0, 0], [2, 0], [1, 1]]
DICTS = [{"annotations": [{"category_id": c} for c in classes]} for classes in CLASSES]
SHARES = {0: (4 / 6, 5 / 9), 1: (2 / 6, 3 / 9), 2: (1 / 6, 1 / 9)}  # of images, of instances


def config(name: str, *, threshold: float = 0.5, num_iters: int = 12) -> SimpleNamespace:
    return SimpleNamespace(
        DATALOADER=SimpleNamespace(SAMPLER_TRAIN=name, REPEAT_THRESHOLD=threshold),
        SOLVER=SimpleNamespace(MAX_ITER=num_iters, IMS_PER_BATCH=2),
    )


def build(name: str, **settings: float) -> IndexStream:
    return build_index_stream(config(name, **settings), DICTS, num_classes=K, seed=3)


def test_instance_aware_factors_are_of_the_geometric_mean_of_both_shares() -> None:
    cfg = config("InstanceAwareRepeatFactorTrainingSampler")
    by_class = {c: max(1.0, (0.5 / (i * n) ** 0.5) ** 0.5) for c, (i, n) in SHARES.items()}
    expected = [max([1.0, *(by_class[c] for c in classes)]) for classes in CLASSES]
    assert max(expected) > 1.5 > min(expected) == 1
    np.testing.assert_allclose(expected_repeats(cfg, DICTS, num_classes=K), expected, rtol=1e-12)


def test_many_objects_in_few_images_are_rarer_to_images_than_to_instances() -> None:
    """Two classes in as many images: the one with more objects in them is repeated less."""
    dicts = [{"annotations": [{"category_id": 0}] * 9 + [{"category_id": 1}]}] * 2
    dicts = [*dicts, *[{"annotations": [{"category_id": 2}]}] * 30]
    sampler = InstanceAwareRepeatFactorTrainingSampler
    first, second, _ = sampler.class_frequency(dicts, 3)
    assert first == pytest.approx(3 * second)


def test_the_automatic_threshold_is_of_these_shares() -> None:
    name = "InstanceAwareRepeatFactorTrainingSampler"
    frequency = SAMPLER_REGISTRY.get(name).class_frequency(DICTS, K)
    auto, given = (
        expected_repeats(config(name, threshold=value), DICTS, num_classes=K)
        for value in (-1.0, threshold_that_repeats(frequency))
    )
    np.testing.assert_array_equal(auto, given)
    assert (auto > 1).tolist() == [False, False, False, False, True, False]


def test_square_root_sampling_draws_by_the_root_of_the_inverse_frequency() -> None:
    draws = 30_000
    factors = np.array([max([1.0, *(SHARES[c][0] ** -0.5 for c in own)]) for own in CLASSES])
    counts = np.bincount(build("SquareRootTrainingSampler").draw(draws).indices, minlength=6)
    expected = draws * factors / factors.sum()
    # an epoch's rounding varies each count by less than 1/2; about 5000 epochs
    assert (np.abs(counts - expected) < 5 * 0.5 * np.sqrt(draws / 6)).all()
    assert len(set(np.round(expected))) == 4


def test_progressive_sampling_starts_with_every_image_and_ends_with_balanced_classes() -> None:
    """Four epochs of six images: factors go from 1 to those of class-balanced sampling."""
    stream = build("ProgressivelyBalancedTrainingSampler", num_iters=12)
    balanced = np.array([max([1.0, *(1 / SHARES[c][0] for c in own)]) for own in CLASSES])
    balanced /= balanced.mean()
    for epoch in range(6):
        expected = 1 + (balanced - 1) * min(epoch / 3, 1)
        block = stream._current_block()
        np.testing.assert_allclose(stream.epoch_factors(), expected, rtol=1e-12)
        counts = np.bincount(block.indices, minlength=6)
        assert (np.abs(counts - expected) < 1).all()
        if epoch == 0:
            assert sorted(block.indices) == list(range(6))
        stream.draw(len(block))
    mean = expected_repeats(config("ProgressivelyBalancedTrainingSampler"), DICTS, num_classes=K)
    np.testing.assert_allclose(mean, (1 + balanced) / 2, rtol=1e-12)


def test_a_run_of_one_epoch_or_less_draws_every_image_alike() -> None:
    stream = build("ProgressivelyBalancedTrainingSampler", num_iters=2)
    np.testing.assert_array_equal(stream.epoch_factors(), np.ones(6))
    assert sorted(stream.draw(6).indices) == list(range(6))
