"""How many samples of each class a long-tailed subset has, and which."""

from __future__ import annotations

import numpy as np
import pytest

from balms_seg.data.images.long_tailed_subsets import draw_subset, subset_sizes


def test_sizes_of_the_long_tailed_cifar_sets_are_the_published_ones() -> None:
    sizes = subset_sizes(5000, 10, 100)
    assert sizes.tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert sizes.sum() == 12406
    assert subset_sizes(500, 100, 100).sum() == 10847
    assert subset_sizes(5000, 10, 10).sum() == 20431
    assert subset_sizes(5000, 10, 200)[[0, -1]].tolist() == [5000, 25]


@pytest.mark.parametrize("rho", [1, 2, 7, 10, 49, 100, 500])
def test_the_smallest_class_is_the_largest_divided_by_rho(rho: int) -> None:
    for kind in ("exponential", "step"):
        sizes = subset_sizes(500 * rho, 11, rho, kind)
        assert (sizes[0], sizes[-1]) == (500 * rho, 500)
        assert (np.diff(sizes) <= 0).all()


def test_a_step_halves_the_classes() -> None:
    assert subset_sizes(500, 5, 10, "step").tolist() == [500, 500, 50, 50, 50]


def test_one_class_keeps_everything() -> None:
    assert subset_sizes(7, 1, 100).tolist() == subset_sizes(7, 1, 100, "step").tolist() == [7]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((500, 10, 0.01), "rho.*at least 1, but got 0.01"),
        ((500, 10, float("nan")), "at least 1"),
        ((500, 0, 10), "at least one class"),
        ((50, 10, 100), "without a sample"),
        ((500, 10, 10, "linear"), "'linear'"),
    ],
)
def test_impossible_sizes_are_errors(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        subset_sizes(*arguments)


LABELS = np.arange(600) % 6


def test_a_subset_has_the_sizes_asked_for_in_ascending_order() -> None:
    sizes = subset_sizes(100, 6, 20)
    chosen = draw_subset(LABELS, sizes, seed=3)
    assert np.bincount(LABELS[chosen], minlength=6).tolist() == sizes.tolist()
    assert (np.diff(chosen) > 0).all()


def test_a_longer_tail_lies_within_a_shorter_one() -> None:
    wide, narrow = (set(draw_subset(LABELS, subset_sizes(100, 6, r), 3)) for r in (5, 50))
    assert narrow < wide


def test_the_seed_decides_and_nothing_else() -> None:
    sizes = subset_sizes(50, 6, 10)
    first = draw_subset(LABELS, sizes, 0)
    assert (first == draw_subset(LABELS.tolist(), list(sizes), 0)).all()
    assert (first != draw_subset(LABELS, sizes, 1)).any()
    rarest = first[LABELS[first] == 5]
    assert rarest.tolist() == [179, 209, 251, 359, 485]  # the same on every machine


def test_samples_outside_of_the_subset_do_not_matter_where_keys_are_names() -> None:
    names = [f"train/{label}/{i:04d}.jpg" for i, label in enumerate(LABELS)]
    sizes = subset_sizes(40, 6, 10)
    chosen = draw_subset(LABELS, sizes, 5, keys=names)
    wider = draw_subset(LABELS, subset_sizes(60, 6, 2), 5, keys=names)[::-1]
    again = draw_subset(LABELS[wider], sizes, 5, keys=[names[i] for i in wider])
    assert {names[wider[i]] for i in again} == {names[i] for i in chosen}


def test_each_sample_is_equally_likely() -> None:
    draws = np.concatenate([draw_subset(LABELS, [20] * 6, seed) for seed in range(400)])
    times = np.bincount(draws, minlength=600)  # binomial: mean 80, standard deviation 8
    assert times.min() > 80 - 5 * 8
    assert times.max() < 80 + 5 * 8


@pytest.mark.parametrize(
    ("labels", "sizes", "keys", "message"),
    [
        ([0, 1, 2], [1, 1], None, r"labels in \[0, 1\].*from 0 to 2"),
        ([0, -1], [1, 1], None, "from -1 to 0"),
        ([0, 0, 1], [2, 2], None, "class 1 should keep 2 samples but has 1"),
        ([0, 1], [1, 1], ["a", "a"], "2 different keys"),
        ([0, 1], [1, 1], ["a"], "2 different keys"),
    ],
)
def test_a_subset_that_cannot_be_drawn_is_an_error(
    labels: list[int], sizes: list[int], keys: list[str] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw_subset(labels, sizes, 0, keys=keys)


@pytest.mark.parametrize("kind", ["exponential", "step"])
def test_a_class_may_keep_exactly_one_image(kind: str) -> None:
    assert subset_sizes(20, 4, 20, kind)[-1] == 1
    with pytest.raises(ValueError, match="choose a rho up to 20"):
        subset_sizes(20, 4, 20.5, kind)
