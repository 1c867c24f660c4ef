"""Two classifiers are paired by the images' names, and called different as seldom as promised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from balms_seg.evaluation.images.classifier_predictions import (
    ClassifierPredictions,
    StoredPredictions,
    read_predictions,
    write_predictions,
)
from balms_seg.evaluation.images.paired_accuracy import (
    compare_accuracy,
    mcnemar_p_value,
    wilson_interval,
)

NAMES = ("ape", "bee", "red fox")
GROUPS = ("many", "few", "few")


def stored(
    right: Sequence[bool],
    labels: Sequence[int],
    names: tuple[str, ...] = NAMES,
    keys: Sequence[str] | None = None,
) -> StoredPredictions:
    """Predictions that are the label, or else the class after it."""
    number = len(names)
    predicted = [
        label if hit else (label + 1) % number for hit, label in zip(right, labels, strict=True)
    ]
    probabilities = np.eye(number)[predicted] * 0.8 + 0.2 / number
    keys = [f"{i}.png" for i in range(len(labels))] if keys is None else keys
    judged = ClassifierPredictions.from_probabilities(
        probabilities, np.array(labels), np.arange(len(labels)), keys
    )
    return StoredPredictions(judged, names, GROUPS[:number])


def reordered(run: StoredPredictions, order: np.ndarray) -> StoredPredictions:
    """The same images in another order."""
    arrays = {name: values[order] for name, values in vars(run.predictions).items()}
    return StoredPredictions(
        ClassifierPredictions(**{**arrays, "samples": np.arange(len(order))}),
        run.class_names,
        run.groups,
    )


def test_the_same_predictions_in_another_order_do_not_differ() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    run = stored(rng.random(200) < 0.6, labels)
    for change in compare_accuracy(run, reordered(run, np.arange(200)[::-1])).values():
        assert (change.value, change.low, change.high, change.p_value) == (0, 0, 0, 1)


def test_a_difference_is_that_of_the_accuracies_by_group() -> None:
    labels = [0] * 10 + [1] * 4 + [2] * 2
    first = stored([True] * 8 + [False] * 8, labels)
    second = stored([True] * 6 + [False] * 4 + [True] * 2 + [False] * 2 + [True] * 2, labels)
    found = compare_accuracy(first, reordered(second, np.random.default_rng(1).permutation(16)))
    assert list(found) == ["top1", "balanced", "top1-many", "top1-few"]
    assert found["top1"].value == pytest.approx(10 / 16 - 8 / 16)
    assert found["balanced"].value == pytest.approx((-0.2 + 2 / 4 + 2 / 2) / 3)
    assert found["top1-many"].value == pytest.approx(-0.2)
    assert found["top1-few"].value == pytest.approx((2 / 4 + 2 / 2) / 2)
    assert (found["top1"].num_gained, found["top1"].num_lost) == (4, 2)


def test_classes_in_another_order_are_the_same_classes() -> None:
    order = ("red fox", "ape", "bee")
    first = stored([True, True, False], [0, 1, 2])
    second = stored([True, True, False], [1, 2, 0], names=order)
    assert compare_accuracy(first, second)["top1"].value == 0


def test_folders_that_all_images_share_make_no_other_images() -> None:
    first = stored([True, False], [0, 1], keys=["a/0.png", "b/1.png"])
    second = stored([True, False], [0, 1], keys=["photos/test/a/0.png", "photos/test/b/1.png"])
    assert compare_accuracy(first, second, num_resamples=2)["top1"].value == 0
    flat = stored([True, False], [0, 1], keys=["0.png", "1.png"])
    below = stored([True, False], [0, 1], keys=["photos/0.png", "photos/1.png"])
    assert compare_accuracy(flat, below, num_resamples=2)["top1"].value == 0
    with pytest.raises(ValueError, match="Expected at least 2 resamples .* but got 1 and"):
        compare_accuracy(first, second, num_resamples=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"keys": ["0.png", "x.png"]},
            "only in the first: 1 .1.png.; only in the second: 1 .x.png",
        ),
        ({"labels": [0, 2]}, "1 of 2 images differs, such as 1.png .bee and red fox."),
    ],
)
def test_runs_on_other_images_or_labels_are_refused(change: dict, message: str) -> None:
    first = stored([True, True], [0, 1])
    second = stored(**{"right": [True, True], "labels": [0, 1], **change})
    with pytest.raises(ValueError, match=message):
        compare_accuracy(first, second)


def test_mcnemars_test_has_the_values_of_the_binomial_distribution() -> None:
    assert mcnemar_p_value(0, 0) == 1
    assert mcnemar_p_value(0, 6) == pytest.approx(2 / 2**6)
    assert mcnemar_p_value(3, 9) == pytest.approx(2 * (1 + 12 + 66 + 220) / 2**12)
    assert mcnemar_p_value(5, 5) == 1
    assert 0 < mcnemar_p_value(400, 600) < 1e-9


def test_wilsons_interval_is_above_0_for_none_of_36() -> None:
    z2 = 1.959964**2
    assert wilson_interval(0, 36) == pytest.approx((0, z2 / (36 + z2)), abs=1e-6)
    assert wilson_interval(1, 36) == pytest.approx((36 / (36 + z2), 1), abs=1e-6)
    low, high = wilson_interval(0.25, 40)
    for end in (low, high):  # where the score test is just passed
        assert abs(0.25 - end) == pytest.approx(
            1.959964 * math.sqrt(end * (1 - end) / 40), abs=1e-6
        )


def test_exchangeable_runs_are_seldom_called_different() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], [40, 15, 5])
    alarms = dict.fromkeys(("top1", "top1-many", "top1-few"), 0)
    for _ in range(200):
        rights = rng.random((2, 60)) < 0.6
        found = compare_accuracy(*(stored(own, labels) for own in rights), num_resamples=300)
        for name in alarms:
            alarms[name] += found[name].is_larger_than_chance
    # 5 % of 200 are 10; 19 or more come by chance in less than 1 % of such tests.
    assert max(alarms.values()) < 19, alarms


def test_a_clear_difference_is_found() -> None:
    labels = np.repeat([0, 1, 2], 50)
    first, second = stored([False] * 150, labels), stored([True] * 100 + [False] * 50, labels)
    assert compare_accuracy(first, second)["top1"].is_larger_than_chance
    few = stored([True] * 4 + [False] * 146, labels)
    assert not compare_accuracy(first, few)["top1"].is_larger_than_chance  # the test says 0.125


def test_files_keep_all_of_it(tmp_path: Path) -> None:
    run = stored([True, False], [0, 2], keys=["käfer/1.png", "b c/2.png"])
    write_predictions(tmp_path, run)
    again = read_predictions(tmp_path / "predictions_classification.npz")
    assert (again.class_names, again.groups) == (run.class_names, run.groups)
    for name, values in vars(run.predictions).items():
        assert (getattr(again.predictions, name) == values).all(), name


def test_files_of_old_and_damaged_files_say_so(tmp_path: Path) -> None:
    path = tmp_path / "predictions_classification.npz"
    np.savez(path, samples=np.arange(2))
    with pytest.raises(ValueError, match="another version, which did not name the images"):
        read_predictions(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="is damaged"):
        read_predictions(path)
