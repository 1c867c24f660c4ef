import math

import numpy as np
import pytest
from lvis_cases import random_case
from made_up_world import World

from balms_seg.evaluation import load_ground_truth
from balms_seg.evaluation.lvis.analysis import analyse_task
from balms_seg.evaluation.uncertainty.jackknife import (
    ap_intervals,
    jackknife_error,
    leave_out_weights,
    t_quantile,
)
from balms_seg.evaluation.uncertainty.resampled_ap import group_means, resampled_class_ap
from balms_seg.evaluation.uncertainty.run_comparison import compare_runs

GROUPS = ("AP", "APr", "APc", "APf")


def test_each_image_is_left_out_once_and_blocks_are_of_one_size() -> None:
    weights = leave_out_weights(130)
    assert weights.shape == (130, 60)
    assert ((1 - weights).sum(axis=1) == 1).all()
    assert set((1 - weights).sum(axis=0)) == {2, 3}
    assert leave_out_weights(7).shape == (7, 7)
    np.testing.assert_array_equal(weights, leave_out_weights(130))


def test_error_of_a_mean_is_the_textbook_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=40)
    without = (values.sum() - values) / 39
    assert jackknife_error(without) == pytest.approx(values.std(ddof=1) / math.sqrt(40))
    assert jackknife_error(np.append(without, np.nan)) == pytest.approx(jackknife_error(without))
    assert math.isnan(jackknife_error(np.array([0.5, np.nan])))


@pytest.mark.parametrize(
    ("degrees", "expected"),
    # scipy.stats.t.ppf(0.975, degrees)
    [(1, 12.706205), (2, 4.302653), (3, 3.182446), (5, 2.570582), (12, 2.178813), (59, 2.000995)],
)
def test_quantiles_of_student(degrees: int, expected: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(expected, rel=1e-2 if degrees == 3 else 2e-3)
    assert t_quantile(0.025, degrees) == pytest.approx(-t_quantile(0.975, degrees))


def test_what_the_quantiles_leave_out_is_of_the_fifth_order() -> None:
    """Against the distribution's exact quantile: half of 1/degrees leaves a 32nd of the error."""
    mpmath = pytest.importorskip("mpmath")

    def error(degrees: int) -> float:
        # I_x(degrees / 2, 1 / 2) is the probability of both tails.
        with mpmath.workdps(30):
            low, high = mpmath.mpf(0), mpmath.mpf(1)
            for _ in range(90):
                middle = (low + high) / 2
                tails = mpmath.betainc(degrees / 2, 0.5, 0, middle, regularized=True)
                low, high = (middle, high) if tails < mpmath.mpf(1) / 20 else (low, middle)
            return float(t_quantile(0.975, degrees) - mpmath.sqrt(degrees / low - degrees))

    assert error(20) / error(40) == pytest.approx(32, rel=0.1)


def test_intervals_lie_around_the_metrics_and_are_nan_without_ground_truth() -> None:
    content, detections = random_case(0)
    content["categories"] = [{**one, "frequency": "c"} for one in content["categories"]]
    analysis = analyse_task(load_ground_truth(content), detections, "bbox")
    found = ap_intervals(analysis.matches)
    low, high = found["AP"]
    assert 0 < low < analysis.result.metrics["AP"] < high < 1
    assert np.isnan(found["APr"]).all()


def coverage(num_classes: int, num_images: int, repetitions: int) -> dict[str, float]:
    """How often the interval of a test set holds the mean over test sets of this size."""
    world, rng = World(num_classes), np.random.default_rng(0)
    as_is = np.ones((num_images, 1), dtype=np.int32)
    values, ends = [], []
    for _ in range(repetitions):
        stored = world.detect(world.draw_objects(num_images, rng), rng)
        means = group_means(resampled_class_ap(stored, as_is), stored.frequency)
        values.append([means[name][0] for name in GROUPS])
        ends.append([ap_intervals(stored)[name] for name in GROUPS])
    mean, bounds = np.nanmean(values, axis=0), np.array(ends)
    held = (bounds[..., 0] <= mean) & (mean <= bounds[..., 1])
    return dict(zip(GROUPS, held.mean(axis=0), strict=True))


def false_alarms(num_classes: int, num_images: int, repetitions: int) -> dict[str, float]:
    """How often two runs of one detector are called different."""
    world, rng = World(num_classes), np.random.default_rng(1)
    alarms = dict.fromkeys(GROUPS, 0)
    for _ in range(repetitions):
        objects = world.draw_objects(num_images, rng)
        runs = [world.detect(objects, rng) for _ in range(2)]
        for name, found in compare_runs(*runs, num_resamples=150).items():
            alarms[name] += found.is_larger_than_chance
    return {name: count / repetitions for name, count in alarms.items()}


# Where the true share is 0.95, so few of 100 are below 0.88 in one of 400 tests.
def test_intervals_cover_other_sets_of_this_size() -> None:
    assert min(coverage(15, 60, 100).values()) >= 0.88


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_classes", "num_images", "repetitions"),
    [(15, 60, 300), (60, 60, 200), (60, 200, 100), (240, 60, 60), (15, 1000, 60)],
)
def test_intervals_cover_other_sets_of_every_size(
    num_classes: int, num_images: int, repetitions: int
) -> None:
    found = coverage(num_classes, num_images, repetitions)
    error = math.sqrt(0.95 * 0.05 / repetitions)
    assert min(found.values()) >= 0.95 - 3 * error, found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_classes", "num_images", "repetitions"), [(15, 60, 250), (60, 60, 120), (15, 200, 150)]
)
def test_exchangeable_runs_are_seldom_called_different(
    num_classes: int, num_images: int, repetitions: int
) -> None:
    found = false_alarms(num_classes, num_images, repetitions)
    error = math.sqrt(0.05 * 0.95 / repetitions)
    assert max(found.values()) <= 0.05 + 3 * error, found
