import numpy as np
import pytest
from lvis_cases import annotation, dataset, detection

from balms_seg.evaluation import load_ground_truth
from balms_seg.evaluation.lvis.analysis import analyse_task
from balms_seg.evaluation.uncertainty.reliability import (
    calibration_error_without_blocks,
    reliability,
)

BOX = [10.0, 10.0, 20.0, 20.0]
AWAY = [45.0, 45.0, 10.0, 10.0]


def test_scores_that_mean_what_they_say_have_no_error() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(200_000)
    calibrated = reliability(scores, rng.random(200_000) < scores)
    assert calibrated.expected_calibration_error < 0.01
    assert calibrated.counts.sum() == 200_000


def test_error_is_the_gap_of_score_and_precision() -> None:
    """Of three detections of 0.9 one is right, and so is one of 0.1."""
    found = reliability(np.array([0.9, 0.9, 0.9, 0.1]), np.array([True, False, False, True]))
    assert found.expected_calibration_error == pytest.approx((3 * (0.9 - 1 / 3) + 0.9) / 4)


def test_bounds_belong_to_the_upper_bin_and_empty_bins_are_nan() -> None:
    found = reliability(np.array([0.0, 0.5, 1.0]), np.array([True, True, False]), num_bins=4)
    np.testing.assert_array_equal(found.counts, [1, 0, 1, 1])
    np.testing.assert_array_equal(found.precisions, [1, np.nan, 1, 0])
    np.testing.assert_array_equal(found.mean_scores, [0, np.nan, 0.5, 1])


def test_nothing_has_no_error() -> None:
    empty = reliability(np.zeros(0), np.zeros(0, dtype=bool))
    assert np.isnan(empty.expected_calibration_error)


def test_scores_outside_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\].*got -2 to 3"):
        reliability(np.array([-2.0, 3.0]), np.array([True, False]))


def test_groups_are_apart_and_what_lvis_ignores_is_left_out() -> None:
    """Class 3 is not exhaustively annotated: its unmatched detection counts nowhere."""
    content = dataset(
        [annotation(1, 1, BOX), annotation(1, 2, BOX), annotation(1, 3, BOX)],
        not_exhaustive={1: [3]},
    )
    detections = [
        detection(1, 1, BOX, 0.8),
        detection(1, 2, AWAY, 0.6),
        detection(1, 3, AWAY, 0.9),
        detection(1, 3, BOX, 0.7),
    ]
    groups = analyse_task(load_ground_truth(content), detections, "bbox").calibration
    errors = {name: group.expected_calibration_error for name, group in groups.items()}
    assert errors == pytest.approx({"all": 1.1 / 3, "rare": 0.2, "common": 0.6, "frequent": 0.3})


def test_logits_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    truth = load_ground_truth(dataset([annotation(1, 1, BOX)]))
    assert analyse_task(truth, [detection(1, 1, BOX, 4.2)], "bbox").calibration is None
    assert "outside [0, 1]" in caplog.text


def test_errors_without_blocks_are_those_of_the_other_detections() -> None:
    rng = np.random.default_rng(0)
    scores, is_right = rng.random(500), rng.random(500) < 0.4
    blocks = rng.integers(4, size=500)
    found = calibration_error_without_blocks(scores, is_right, blocks, 5)
    parts = [np.ones(500, bool), *(blocks != block for block in range(5))]
    expected = [reliability(scores[p], is_right[p]).expected_calibration_error for p in parts]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.isnan(calibration_error_without_blocks(scores[:0], is_right[:0], blocks[:0], 2)).all()
