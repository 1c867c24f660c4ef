import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lvis_cases import annotation, dataset, detection, random_case

from balms_seg.evaluation import evaluate_lvis, load_ground_truth
from balms_seg.evaluation.lvis.analysis import analyse_task
from balms_seg.evaluation.predictions.match_file import StoredMatches, read_matches, write_matches
from balms_seg.evaluation.uncertainty.difference import MIN_CLASSES, Difference
from balms_seg.evaluation.uncertainty.jackknife import ap_intervals
from balms_seg.evaluation.uncertainty.resampled_ap import (
    _levels_reached,
    draw_weights,
    group_means,
    interval,
    resampled_class_ap,
)
from balms_seg.evaluation.uncertainty.run_comparison import compare_runs, format_comparison


def without_ties(detections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**found, "score": 1 / (i + 2)} for i, found in enumerate(detections)]


def store(content: dict[str, Any], detections: list[dict[str, Any]], task: str) -> StoredMatches:
    return analyse_task(load_ground_truth(content), detections, task).matches


def repeated(
    content: dict[str, Any], detections: list[dict[str, Any]], weights: np.ndarray
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The data set in which an image stands as often as its weight says."""
    images, annotations, found = [], [], []
    order = sorted(content["images"], key=lambda image: image["id"])
    for image, weight in zip(order, weights.tolist(), strict=True):
        for copy in range(weight):
            new = {"image_id": image["id"] * 1000 + copy}
            images.append({**image, "id": new["image_id"]})
            for entry in content["annotations"]:
                if entry["image_id"] == image["id"]:
                    annotations.append({**entry, **new, "id": len(annotations) + 1})
            found += [{**d, **new} for d in detections if d["image_id"] == image["id"]]
    return {**content, "images": images, "annotations": annotations}, found


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("seed", [0, 1])
def test_images_as_they_are_give_the_ap_of_the_evaluation(task: str, seed: int) -> None:
    content, detections = random_case(seed)
    stored = store(content, detections, task)
    found = resampled_class_ap(stored, np.ones((stored.num_images, 1), dtype=np.int32))[:, 0]
    expected = evaluate_lvis(content, detections, task)
    np.testing.assert_allclose(found, expected.class_ap, rtol=1e-12)
    means = group_means(found[:, None], stored.frequency)
    for name in ("AP", "APr", "APc", "APf"):
        assert means[name][0] == pytest.approx(expected.metrics[name], rel=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_resample_equals_evaluating_the_repeated_images(seed: int) -> None:
    content, detections = random_case(seed, num_images=10, detections_per_image=25)
    detections = without_ties(detections)
    weights = draw_weights(10, 3, seed=seed)
    assert (weights.sum(axis=0) == 10).all()
    assert weights.max() > 1
    found = resampled_class_ap(store(content, detections, "bbox"), weights)
    for column in range(3):
        expected = evaluate_lvis(*repeated(content, detections, weights[:, column]), "bbox")
        np.testing.assert_allclose(found[:, column], expected.class_ap, rtol=1e-12)


def test_recall_reaches_the_levels_that_a_search_finds() -> None:
    """Those that it equals too, whichever side rounding puts a product on."""
    levels = np.linspace(0, 1, 101)
    for total in range(1, 130):
        found = np.arange(total + 1)[:, None]
        expected = np.searchsorted(levels, found / total, side="right")
        expected[0] = 0
        assert np.array_equal(_levels_reached(found, np.array([total])), expected)


def test_class_absent_from_a_resample_leaves_its_mean() -> None:
    class_ap = np.array([[0.2, np.nan], [0.6, 0.6], [np.nan, np.nan]])
    means = group_means(class_ap, ("r", "r", "f"))
    np.testing.assert_allclose(means["AP"], [0.4, 0.6])
    np.testing.assert_allclose(means["APr"], [0.4, 0.6])
    assert np.isnan(means["APf"]).all()


def test_parts_of_resamples_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = store(*random_case(2, num_images=10), "bbox")
    weights = draw_weights(stored.num_images, 40)
    whole = resampled_class_ap(stored, weights)
    monkeypatch.setattr("balms_seg.evaluation.uncertainty.resampled_ap._ELEMENTS_AT_ONCE", 1)
    np.testing.assert_array_equal(resampled_class_ap(stored, weights), whole)


def test_interval_holds_the_middle_of_the_values() -> None:
    assert interval(np.append(np.arange(101.0), np.nan), 0.9) == pytest.approx((5, 95))
    assert np.isnan(interval(np.array([np.nan]))).all()


def test_run_does_not_differ_from_itself_and_a_far_worse_one_does() -> None:
    content, detections = random_case(0)
    good = store(content, detections, "bbox")
    rng = np.random.default_rng(0)
    bad = store(content, [{**d, "score": float(rng.random())} for d in detections[::12]], "bbox")
    same = compare_runs(good, good, num_resamples=50)
    assert {(d.low, d.high, d.is_larger_than_chance) for d in same.values()} == {(0, 0, False)}
    found = compare_runs(good, bad, num_resamples=50)
    assert found["AP"].second < found["AP"].first
    assert found["AP"].is_larger_than_chance
    back = compare_runs(bad, good, num_resamples=50)
    assert (back["AP"].low, back["AP"].high) == pytest.approx((-found["AP"].high, -found["AP"].low))
    table = format_comparison(found, names=("good", "bad"))
    assert [cell.strip() for cell in table.split("\n")[0].split("|")][1:6] == [
        *("metric", "classes", "good", "bad", "difference"),
    ]
    assert "yes" in table
    assert "n/a" not in table


def test_a_comparison_is_a_table_in_percent() -> None:
    nan = float("nan")
    found = {
        "AP": Difference(0.25, 0.5, 0.125, 0.375, num_classes=7),
        "APr": Difference(*[nan] * 4, num_classes=0),
    }
    _, _, *rows = format_comparison(found, names=("a", "b")).replace("|", " ").splitlines()
    assert [row.split() for row in rows] == [
        ["AP", "7", "25.00", "50.00", "+25.00", "+12.50", "to", "+37.50", "yes"],
        ["APr", "0", *["n/a"] * 5],
    ]


@pytest.mark.parametrize(
    ("one", "cell"),
    [
        (Difference(0, 0.5, 0.25, 0.75, num_classes=MIN_CLASSES), "yes"),
        (Difference(0, 0.5, -0.25, 0.75, num_classes=MIN_CLASSES), "no"),
        (Difference(0, 0.5, 0.25, 0.75, num_classes=MIN_CLASSES - 1), "not judged"),
        (Difference(0, 0.5, 0.5, 0.5, num_classes=300), "not judged"),
    ],
)
def test_nothing_is_certain_of_one_class_or_of_an_interval_without_width(
    one: Difference, cell: str
) -> None:
    _, _, row, *notes = format_comparison({"APr": one}, names=("a", "b")).splitlines()
    assert row.rstrip(" |").endswith(f" {cell}")
    assert len(notes) == (cell == "not judged")
    assert one.is_larger_than_chance == (cell == "yes")


def test_a_group_of_one_class_with_objects_has_no_verdict_and_no_interval() -> None:
    """Class 1 is found by one run alone, so each resample that holds it says the same."""
    boxes = [[1, 1, 20, 20], [30, 30, 20, 20]]
    truth = [annotation(image, 1, boxes[0]) for image in (1, 2, 3)]
    truth += [annotation(image, kind, boxes[1]) for image in range(4, 9) for kind in (3, 4)]
    content = dataset(truth, num_images=8, frequency="rrcc")
    found = [detection(i, k, boxes[1], 0.5 + i / 20) for i in (4, 5, 7) for k in (3, 4)]
    rare = [detection(image, 1, boxes[0], 0.9) for image in (1, 2, 3)]
    blind, seeing = store(content, found, "bbox"), store(content, found + rare, "bbox")
    differences = compare_runs(blind, seeing, num_resamples=50)
    numbers = {name: one.num_classes for name, one in differences.items()}
    assert numbers == {"AP": 3, "APr": 1, "APc": 2, "APf": 0}
    assert differences["APr"].low > 0
    assert not differences["APr"].is_larger_than_chance
    intervals = ap_intervals(seeing)
    assert np.isnan(intervals["APr"]).all()
    assert intervals["APc"][0] < intervals["APc"][1]


def test_runs_of_different_sets_tasks_and_sizes_are_refused() -> None:
    content, detections = random_case(0, num_images=4)
    run = store(content, detections, "bbox")
    other = store(*random_case(1, num_images=4), "bbox")
    with pytest.raises(ValueError, match="same evaluation set.*4 and 4 images"):
        compare_runs(run, other)
    with pytest.raises(ValueError, match="one task, but got bbox and segm"):
        compare_runs(run, store(content, detections, "segm"))
    with pytest.raises(ValueError, match="at least 2 resamples"):
        compare_runs(run, run, num_resamples=1)
    with pytest.raises(ValueError, match="weights of 4 images, but got 3"):
        resampled_class_ap(run, np.ones((3, 1), dtype=np.int32))


def test_fingerprint_tells_sets_apart_by_one_number() -> None:
    content, detections = random_case(0, num_images=4)
    first = store(content, detections, "bbox").fingerprint
    assert store(content, detections[:5], "bbox").fingerprint == first
    content["annotations"][0]["bbox"][0] += 1
    assert store(content, detections, "bbox").fingerprint != first


def test_matches_come_back_from_their_file(tmp_path: Path) -> None:
    stored = store(*random_case(0, num_images=4), "segm")
    write_matches(tmp_path / "matches_segm.npz", stored)
    again = read_matches(tmp_path / "matches_segm.npz")
    for field in dataclasses.fields(StoredMatches):
        left, right = getattr(stored, field.name), getattr(again, field.name)
        np.testing.assert_array_equal(left, right)
    content = (tmp_path / "matches_segm.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut\.npz cannot be read as matches"):
        read_matches(tmp_path / "cut.npz")
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        read_matches(tmp_path / "absent.npz")
