"""The report names the classes that fail, and the reason that was put into the data."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from report_runs import NAMES, NUM_IMAGES, annotations, predictions, write_run

from balms_seg.evaluation.lvis.detections import as_table
from balms_seg.evaluation.lvis.ground_truth import load_ground_truth
from balms_seg.report.class_rows import class_rows
from balms_seg.report.findings import (
    ClassFinding,
    find_classes,
    group_fates,
    summarise_run,
    worst_classes,
)
from balms_seg.report.object_fates import FATES, find_fates
from balms_seg.report.run_files import read_run


@pytest.mark.parametrize("task", ["segm", "bbox"])
def test_the_best_scored_detection_on_an_object_decides_its_fate(task: str) -> None:
    truth = load_ground_truth(annotations())
    fates = find_fates(truth, as_table(predictions(confused=4), truth), task)
    counts = fates.counts(4)
    assert dict(zip(FATES, counts[2].tolist(), strict=True)) == {
        "right": 2,
        "confused": 4,
        "misplaced": 0,
        "not found": 0,
    }
    assert counts[3].tolist() == [0, 0, 1, NUM_IMAGES - 1]
    confusion = fates.confusion(4)
    assert confusion[2].tolist() == [4, 0, 2, 0]
    assert confusion.sum() == 3 * NUM_IMAGES  # objects that nothing covers are left out
    confused = fates.fates == FATES.index("confused")
    assert np.allclose(fates.scores[confused], 0.95)
    assert np.isnan(fates.scores[fates.classes == 3]).all()


def test_of_equal_scores_the_earlier_detection_speaks() -> None:
    truth = load_ground_truth(annotations())
    first, second = ({**predictions()[0], "category_id": k} for k in truth.category_ids[1:3])
    boxless = {name: value for name, value in second.items() if name != "bbox"} | {"score": 1.0}
    fates = find_fates(truth, as_table([boxless, first, second], truth), "bbox")
    (spoken,) = [speaker for speaker in fates.speakers if speaker is not None]
    assert spoken["category_id"] == truth.category_ids[1]
    assert FATES[fates.fates[fates.predicted == 1].item()] == "confused"


def test_without_detections_no_object_is_found() -> None:
    truth = load_ground_truth(annotations())
    fates = find_fates(truth, as_table([], truth), "segm")
    assert (fates.fates == FATES.index("not found")).all()
    assert len(fates.fates) == 4 * NUM_IMAGES


def test_reasons_name_what_costs_most(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    truth = load_ground_truth(annotations())
    fates = find_fates(truth, as_table(json.loads(run.detections.read_text()), truth), "segm")
    findings = find_classes(run, "segm", fates)
    assert findings[2].reasons() == [f"6 of 6 are taken for another class, mostly {NAMES[0]}"]
    assert findings[2].false_alarms is None  # none is right that they could outscore
    assert findings[3].reasons() == ["5 of 6 are not found"]
    assert findings[1].reasons() == []
    assert [finding.row["name"] for finding in worst_classes(findings, 2)] == [NAMES[2], "eel"]
    assert group_fates(findings)["rare"] == {
        "right": 0,
        "confused": 6,
        "misplaced": 1,
        "not found": 5,
    }
    text = " ".join(summarise_run(run, findings))
    assert "trail" not in text  # one class is frequent, and one is common
    of_two = " ".join(summarise_run(run, [*findings, findings[0]]))
    assert "Rare classes trail frequent ones" in of_two
    assert "Of 12 objects of rare classes 0 % are right, 50 % taken for another class" in text


def test_wrong_detections_above_the_typical_hit_are_a_reason(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    cat = find_classes(run, "segm", None)[0]
    assert (cat.false_alarms, cat.right_above) == (6, 3)  # 6 right at 0.9, 6 wrong at 0.95
    assert cat.reasons() == ["6 wrong detections outscore half of its right ones"]


def test_loose_outlines_are_a_reason_only_beyond_what_is_usual() -> None:
    row = {"name": "x", "AP": 30.0, "AP50": 90.0, "val_instances": 8}
    fates = {"right": 8, "confused": 0, "misplaced": 0, "not found": 0}
    assert ClassFinding(row, fates, None, 0, 4, usual_loss=20.0).reasons() == [
        "loosely outlined: AP50 is 90, AP 30"
    ]
    assert ClassFinding(row, fates, None, 0, 4, usual_loss=58.0).reasons() == []


def test_classes_without_ground_truth_are_not_among_the_worst() -> None:
    rows = [
        {"name": n, "AP": ap, "AP50": ap, "val_instances": 1}
        for n, ap in (("a", math.nan), ("b", 3.0))
    ]
    findings = [ClassFinding(row, {}, None, None, None, 0.0) for row in rows]
    assert [finding.row["name"] for finding in worst_classes(findings)] == ["b"]


def test_the_table_of_classes_rounds_as_the_sentences_do(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", tasks=("bbox",)))
    row = {"name": "a", "group": "rare", "AP": 33.152, "AP50": 50.0, "val_instances": 1}
    _, (entry,) = class_rows([run], [[ClassFinding(row, {}, None, None, None, 0.0)]])
    assert entry["ap0"] == 33.2  # 33.15, rounded again, is 33.1
