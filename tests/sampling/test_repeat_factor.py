"""Repeat factors against detectron2's and against the definition."""

from __future__ import annotations

import inspect
import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balms_seg.class_statistics.repeat_threshold import threshold_that_repeats
from balms_seg.sampling import (
    RepeatFactorTrainingSampler,
    build_index_stream,
    compute_image_frequency,
    compute_repeat_factors,
    expected_repeats,
)
from balms_seg.sampling.repeat_factor import class_repeat_factors

NUM_CLASSES = 12
THRESHOLD = 0.3


def _dict(categories: list[int], crowd: tuple[int, ...] = ()) -> dict:
    return {
        "annotations": [
            {"category_id": category, "iscrowd": int(i in crowd)}
            for i, category in enumerate(categories)
        ]
    }


@pytest.fixture
def dataset_dicts() -> list[dict]:
    """60 images of a long tail, some empty, some with crowds only; class 11 is absent."""
    rng = np.random.default_rng(7)
    share = 1 / (1 + np.arange(11)) ** 1.5
    dicts = [_dict(rng.choice(11, rng.integers(0, 5), p=share / share.sum())) for _ in range(57)]
    return [_dict([]), *dicts, _dict([9, 9, 0], crowd=(0, 1)), _dict([10], crowd=(0,))]


def _config(threshold: float, **keys: object) -> SimpleNamespace:
    loader = {
        "SAMPLER_TRAIN": "RepeatFactorTrainingSampler",
        "REPEAT_THRESHOLD": threshold,
        **keys,
    }
    return SimpleNamespace(DATALOADER=SimpleNamespace(**loader))


def _factors_by_definition(dicts: list[dict], threshold: float) -> list[float]:
    """Image by image, in Python floats."""
    shown = [{a["category_id"] for a in record["annotations"]} for record in dicts]
    factors = []
    for classes in shown:
        factor = 1.0
        for category in classes:
            frequency = sum(category in other for other in shown) / len(shown)
            factor = max(factor, math.sqrt(threshold / frequency))
        factors.append(factor)
    return factors


def test_factors_follow_the_definition(dataset_dicts: list[dict]) -> None:
    factors = compute_repeat_factors(dataset_dicts, NUM_CLASSES, THRESHOLD)
    assert factors.dtype == np.float64
    assert len(np.unique(factors)) > 5
    expected = _factors_by_definition(dataset_dicts, THRESHOLD)
    np.testing.assert_allclose(factors, expected, rtol=1e-12, atol=0)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=12),
    threshold=st.floats(0, 1.5),
)
def test_factors_follow_the_definition_on_any_data(rows: list[list[int]], threshold: float) -> None:
    dicts = [_dict(row) for row in rows]
    expected = _factors_by_definition(dicts, threshold)
    factors = compute_repeat_factors(dicts, 5, threshold)
    np.testing.assert_allclose(factors, expected, rtol=1e-12, atol=0)


def test_factors_equal_detectron2s(dataset_dicts: list[dict]) -> None:
    samplers = pytest.importorskip("detectron2.data.samplers")
    reference = samplers.RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    ours = compute_repeat_factors(dataset_dicts, NUM_CLASSES, THRESHOLD)
    np.testing.assert_array_equal(
        ours.astype(np.float32), reference(dataset_dicts, THRESHOLD).numpy()
    )


def test_factors_without_the_root_equal_detectron2s(dataset_dicts: list[dict]) -> None:
    samplers = pytest.importorskip("detectron2.data.samplers")
    reference = samplers.RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    if "sqrt" not in inspect.signature(reference).parameters:
        pytest.skip("this detectron2 always takes the root")
    config = _config(THRESHOLD, REPEAT_SQRT=False)
    ours = expected_repeats(config, dataset_dicts, num_classes=NUM_CLASSES)
    theirs = reference(dataset_dicts, THRESHOLD, sqrt=False).numpy()
    np.testing.assert_array_equal(ours.astype(np.float32), theirs)
    assert ours.max() > compute_repeat_factors(dataset_dicts, NUM_CLASSES, THRESHOLD).max()


def test_images_without_annotations_get_one_and_shift_nothing(dataset_dicts: list[dict]) -> None:
    """Empty images in between leave every other image the factor it has when they come last."""
    full = [record for record in dataset_dicts if record["annotations"]]
    empty = [{"annotations": []}, {}, {"annotations": []}] * 5
    at_the_end = compute_repeat_factors(full + empty, NUM_CLASSES, THRESHOLD)
    mixed = list(full)
    for place, record in zip(range(0, 30, 2), empty, strict=True):
        mixed.insert(place, record)
    factors = compute_repeat_factors(mixed, NUM_CLASSES, THRESHOLD)
    is_empty = np.array([not record.get("annotations") for record in mixed])
    assert (factors[is_empty] == 1).all()
    np.testing.assert_array_equal(factors[~is_empty], at_the_end[: len(full)])


def test_labels_count_as_one_annotation() -> None:
    labels = [0, 0, 0, 0, 0, 0, 0, 1]
    by_label = compute_repeat_factors([{"label": label} for label in labels], 2, 0.5)
    by_annotation = compute_repeat_factors([_dict([label]) for label in labels], 2, 0.5)
    np.testing.assert_array_equal(by_label, by_annotation)
    assert by_label[-1] == 2


@pytest.mark.parametrize("category", [-1, NUM_CLASSES])
def test_class_ids_outside_the_range_are_named(category: int) -> None:
    with pytest.raises(ValueError, match="NUM_CLASSES"):
        compute_repeat_factors([_dict([0]), _dict([category])], NUM_CLASSES, THRESHOLD)


def test_auto_repeats_the_third_of_the_classes_that_fewest_images_show() -> None:
    counts = np.array([2, 3, 10, 20, 50, 80])
    factors = class_repeat_factors(counts, 100, -1.0)
    assert (factors[:2] > 1).all()
    assert (factors[2:] == 1).all()
    np.testing.assert_array_equal(
        factors, class_repeat_factors(counts, 100, threshold_that_repeats(counts / 100))
    )


def test_a_negative_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="REPEAT_THRESHOLD"):
        compute_repeat_factors([_dict([0])], NUM_CLASSES, -0.1)


@pytest.mark.parametrize("factors", [[1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]])
def test_unusable_factors_are_refused(factors: list[float]) -> None:
    with pytest.raises(ValueError, match="repeat factors"):
        RepeatFactorTrainingSampler(factors, seed=0)


def _mean_repeats(factors: np.ndarray, epochs: int) -> np.ndarray:
    """Draws of each image per epoch."""
    sampler = RepeatFactorTrainingSampler(factors, seed=5)
    counts = np.zeros(len(factors))
    for _ in range(epochs):
        first = sampler.draw(1).indices
        rest = sampler.draw(len(sampler._block) - 1).indices  # to the end of this epoch
        counts += np.bincount(np.concatenate([first, rest]), minlength=len(factors))
    return counts / epochs


def test_images_come_as_often_as_their_factors_say(dataset_dicts: list[dict]) -> None:
    """Per image, within 5 standard errors of the stochastic rounding; a shift by one fails."""
    factors = compute_repeat_factors(dataset_dicts, NUM_CLASSES, THRESHOLD)
    epochs = 2000
    repeats = _mean_repeats(factors, epochs)
    fraction = factors % 1
    standard_error = np.sqrt(fraction * (1 - fraction) / epochs)
    assert (np.abs(repeats - factors) <= 5 * standard_error + 1e-6).all()
    assert not (np.abs(repeats - np.roll(factors, 1)) <= 5 * standard_error + 1e-6).all()


def test_a_run_without_repeats_warns_and_names_a_threshold_that_repeats(
    dataset_dicts: list[dict], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        build_index_stream(_config(0.001), dataset_dicts, num_classes=NUM_CLASSES, seed=0)
    (record,) = caplog.records
    assert "REPEAT_THRESHOLD" in record.getMessage()
    suggested = record.args[1]
    caplog.clear()
    build_index_stream(_config(suggested), dataset_dicts, num_classes=NUM_CLASSES, seed=0)
    assert not caplog.records


def test_a_third_of_the_classes_lie_below_the_suggested_threshold(
    dataset_dicts: list[dict],
) -> None:
    frequency = compute_image_frequency(dataset_dicts, NUM_CLASSES)
    present = np.sort(frequency[frequency > 0])
    threshold = threshold_that_repeats(frequency)
    third = present[math.ceil(len(present) / 3) - 1]
    assert ((frequency > 0) & (frequency < threshold)).sum() == (present <= third).sum()


def test_classes_in_one_image_each_repeat_beside_classes_in_two() -> None:
    """As in 46 photographs, where most classes are in one and a step above 1/46 repeats nothing."""
    counts = np.repeat([0, 1, 2, 5, 30], [3, 43, 10, 5, 1])
    threshold = threshold_that_repeats(counts / 46)
    factors = class_repeat_factors(counts, 46, threshold)
    assert factors[counts == 1] == pytest.approx(np.sqrt(2), abs=0.01)
    assert (factors[counts > 1] == 1).all()


@pytest.mark.parametrize("frequency", [1.0, 0.4, 0.05, 1 / 3, 1e-5])
def test_the_suggested_threshold_lies_above_the_frequency(frequency: float) -> None:
    threshold = threshold_that_repeats(np.array([frequency, 0.0]))
    assert frequency < threshold <= 1.011 * frequency


def test_auto_by_hand_is_the_number_that_a_run_settles(dataset_dicts: list[dict]) -> None:
    cfg = _config(0.001)
    cfg.DATALOADER.REPEAT_THRESHOLD = "auto"  # which no file could, where the key is a number
    frequency = compute_image_frequency(dataset_dicts, NUM_CLASSES)
    expected = compute_repeat_factors(dataset_dicts, NUM_CLASSES, threshold_that_repeats(frequency))
    found = RepeatFactorTrainingSampler.expected_repeats(
        cfg, dataset_dicts, num_classes=NUM_CLASSES
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("threshold", "is_said"), [(-1.0, True), ("auto", True), (0.1, False)])
def test_whoever_builds_the_sampler_learns_what_auto_is(
    dataset_dicts: list[dict],
    caplog: pytest.LogCaptureFixture,
    threshold: float | str,
    is_said: bool,
) -> None:
    caplog.set_level(logging.INFO, "balms_seg")
    cfg = _config(0.001)
    cfg.DATALOADER.REPEAT_THRESHOLD = threshold
    build_index_stream(cfg, dataset_dicts, num_classes=NUM_CLASSES, seed=0)
    number = threshold_that_repeats(compute_image_frequency(dataset_dicts, NUM_CLASSES))
    assert (f"DATALOADER.REPEAT_THRESHOLD is {number:g}: " in caplog.text) == is_said
