"""Each kind of error on an image made for it, and the rows, csv and json per class."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lvis_cases import annotation, dataset, detection, random_case

from balms_seg.evaluation import load_ground_truth
from balms_seg.evaluation.lvis.analysis import TaskAnalysis, analyse_task
from balms_seg.evaluation.lvis.category_counts import TrainingCounts
from balms_seg.evaluation.lvis.error_kinds import ERROR_KINDS, FALSE_POSITIVE_KINDS
from balms_seg.evaluation.output.per_class import (
    per_class_rows,
    read_per_class_json,
    write_per_class_csv,
    write_per_class_json,
)

BOX = [10.0, 10.0, 20.0, 20.0]
AWAY = [45.0, 45.0, 10.0, 10.0]
SHIFTED = [20.0, 10.0, 20.0, 20.0]  # IoU 1/3 with BOX
NEAR = [11.0, 10.0, 20.0, 20.0]  # IoU 19/21
TASKS = pytest.mark.parametrize("task", ["bbox", "segm"])


def analyse(
    annotations: list[dict[str, Any]], detections: list[dict[str, Any]], task: str, **options: Any
) -> TaskAnalysis:
    return analyse_task(load_ground_truth(dataset(annotations, **options)), detections, task)


def errors_of(analysis: TaskAnalysis, class_index: int) -> dict[str, int]:
    counts = {kind: int(analysis.errors.counts[kind][class_index]) for kind in ERROR_KINDS}
    return {kind: count for kind, count in counts.items() if count}


@TASKS
@pytest.mark.parametrize(
    ("class_id", "box", "kind"),
    [
        (1, SHIFTED, "localisation"),
        (2, NEAR, "classification"),
        (2, SHIFTED, "both"),
        (1, AWAY, "background"),
        (2, AWAY, "background"),
    ],
)
def test_false_positive_of_each_kind(class_id: int, box: list[float], kind: str, task: str) -> None:
    """Image 1 has an object of class 1 and says that class 2 is absent."""
    found = detection(1, class_id, box, 0.5)
    analysis = analyse([annotation(1, 1, BOX)], [found], task, negatives={1: [2]})
    missed = {"missed": 1} if kind in ("both", "background") else {}
    expected = {1: {class_id: {kind: 1}}, 2: {1: {}, 2: {kind: 1}}}[class_id]
    expected[1] = {**expected[1], **missed}
    assert {k: errors_of(analysis, k - 1) for k in expected} == expected


@TASKS
def test_second_detection_of_an_object_is_a_duplicate(task: str) -> None:
    detections = [detection(1, 1, BOX, 0.9), detection(1, 1, NEAR, 0.5)]
    analysis = analyse([annotation(1, 1, BOX)], detections, task)
    assert errors_of(analysis, 0) == {"duplicate": 1}


@TASKS
@pytest.mark.parametrize(
    "options", [{"negatives": {1: []}}, {"negatives": {1: [2]}, "not_exhaustive": {1: [2]}}]
)
def test_what_lvis_does_not_count_is_no_error(task: str, options: dict[str, Any]) -> None:
    detections = [detection(1, 1, BOX, 0.9), detection(1, 2, AWAY, 0.5)]
    analysis = analyse([annotation(1, 1, BOX)], detections, task, **options)
    assert errors_of(analysis, 0) == errors_of(analysis, 1) == {}


def test_class_is_confused_with_the_one_of_most_score() -> None:
    """Two weak detections of class 2 and a strong one of class 3 lie on the object of class 1."""
    detections = [detection(1, 2, BOX, 0.2), detection(1, 2, NEAR, 0.2), detection(1, 3, BOX, 0.9)]
    analysis = analyse([annotation(1, 1, BOX)], detections, "bbox", negatives={1: [2, 3]})
    np.testing.assert_array_equal(analysis.errors.confused_with, [2, -1, -1])


@TASKS
@pytest.mark.parametrize("seed", [0, 1])
def test_kinds_add_up_to_the_false_positives_that_count(task: str, seed: int) -> None:
    content, detections = random_case(seed)
    analysis = analyse_task(load_ground_truth(content), detections, task)
    stored = analysis.matches
    unmatched = stored.counts_unmatched.copy()
    unmatched[stored.rows[stored.is_matched[:, 0]]] = False
    total = sum(analysis.errors.counts[kind].sum() for kind in FALSE_POSITIVE_KINDS)
    assert total == unmatched.sum() > 50
    found = (stored.is_matched & ~stored.is_ignored)[:, 0].sum()
    assert analysis.errors.counts["missed"].sum() <= len(stored.annotation_classes) - found


@pytest.mark.parametrize("task", ["bbox", "segm", "boundary"])
@pytest.mark.parametrize("with_crowds", [False, True])
def test_matches_are_the_same_with_and_without_kinds(task: str, with_crowds: bool) -> None:
    content, detections = random_case(0)
    if with_crowds:  # in the form of COCO, which alone knows them
        for image in content["images"]:
            del image["neg_category_ids"], image["not_exhaustive_category_ids"]
        for entry in content["annotations"][::3]:
            entry["iscrowd"] = 1
    truth = load_ground_truth(content)
    assert truth.is_crowd.any() == with_crowds
    both = [analyse_task(truth, detections, task, with_errors=one).matches for one in (True, False)]
    for name in ("rows", "is_matched", "is_ignored", "counts_unmatched"):
        np.testing.assert_array_equal(*(getattr(one, name) for one in both))
    assert both[0].is_matched.sum() > 50


def test_rows_come_back_from_json_and_read_not_available_in_csv(tmp_path: Path) -> None:
    content = dataset([annotation(1, 1, BOX), annotation(1, 2, BOX)], frequency="rf")
    content["categories"].append({"id": 7, "name": "class 7"})
    analysis = analyse_task(load_ground_truth(content), [detection(1, 1, BOX, 0.5)], "bbox")
    rows = per_class_rows(
        analysis.result,
        class_ids={1: 2, 2: 1, 7: 0},
        class_names=["seven", "two, or so", "one"],
        training=TrainingCounts(images={1: 3, 2: 400}, instances={2: 900}),
        errors=analysis.errors,
    )
    write_per_class_csv(tmp_path / "a.csv", rows)
    with (tmp_path / "a.csv").open(newline="") as file:
        read = list(csv.reader(file))
    assert read[0][:8] == (
        ["class_id", "name", "group", "val_instances", "train_image_count", "AP", "AP50", "AR"]
    )
    assert read[0][8:] == ["train_instance_count", *ERROR_KINDS, "most_confused_with"]
    none = ["0"] * 6
    assert read[1][:8] == ["0", "seven", "n/a", "0", "n/a", "n/a", "n/a", "n/a"]
    assert read[1][8:] == ["n/a", *none, "n/a"]
    assert read[2][:8] == ["1", "two, or so", "frequent", "1", "400", *["0.0000"] * 3]
    assert read[2][8:] == ["900", *none[:5], "1", "n/a"]
    assert read[3] == ["2", "one", "rare", "1", "3", *["100.0000"] * 3, "n/a", *none, "n/a"]
    write_per_class_json(tmp_path / "a.json", rows, task="bbox")
    again = read_per_class_json(tmp_path / "a.json")
    assert [row["name"] for row in again] == ["seven", "two, or so", "one"]
    assert math.isnan(again[0]["AP"])
    assert again[2]["AP"] == pytest.approx(100)
