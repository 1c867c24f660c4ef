"""Annotations that the model contradicts: missing ones, and ones that nothing is found on."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import NAMES, annotations, box_of, predictions, write_data, write_run

from balms_seg.commands.command_line import run_command
from balms_seg.evaluation.lvis.detections import as_table
from balms_seg.evaluation.lvis.ground_truth import load_ground_truth
from balms_seg.report.object_fates import find_fates
from balms_seg.report.suspicious_labels import (
    NOT_ANNOTATED,
    NOT_FOUND,
    SuspiciousLabel,
    find_suspicious_labels,
)
from balms_seg.report.unannotated import find_unannotated

FREE = [24.5, 24.5, 9.0, 9.0]  # between what is annotated


def found_in(content: dict[str, Any], *runs: list[dict[str, Any]]) -> list[SuspiciousLabel]:
    truth = load_ground_truth(content)
    tables = [as_table(run, truth) for run in runs]
    fates = [find_fates(truth, table, "bbox") for table in tables]
    pairs = zip(tables, fates, strict=True)
    return find_suspicious_labels(truth, fates, [find_unannotated(truth, *pair) for pair in pairs])


def of_kind(labels: list[SuspiciousLabel], kind: str) -> list[SuspiciousLabel]:
    return [label for label in labels if label.kind == kind]


def seen(image: int, category: int, score: float, box: list[float] = FREE) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def test_of_a_model_that_finds_nothing_rightly_no_detection_is_a_sign() -> None:
    assert of_kind(found_in(annotations(), [seen(3, 2, 0.9)]), NOT_ANNOTATED) == []


def test_sure_detections_without_an_annotation_are_listed_surest_first() -> None:
    """Right detections have 0.9: what is less sure, or lies on an object, is no sign."""
    run = [
        *predictions(),
        *(seen(2, 1, 0.92), seen(3, 2, 0.99), seen(4, 2, 0.5)),
        seen(5, 2, 0.99, box_of(4)),  # on an object that the model does not find
    ]
    found = of_kind(found_in(annotations(), run), NOT_ANNOTATED)
    assert [(label.image_id, label.predicted_as, label.score) for label in found] == [
        (3, NAMES[1], 0.99),
        (2, NAMES[0], 0.92),
    ]
    assert found[0].annotated_as is None
    assert list(found[0].box) == FREE


@pytest.mark.parametrize("field", ["not_exhaustive_category_ids", "absent"])
def test_a_class_that_nobody_looked_for_is_no_missing_annotation(field: str) -> None:
    content = annotations()
    if field == "absent":  # of a federated set: category 4 is neither annotated nor negative there
        content["annotations"] = [
            a for a in content["annotations"] if (a["image_id"], a["category_id"]) != (2, 4)
        ]
    else:
        content["images"][1][field] = [4]
    found = of_kind(found_in(content, [*predictions(), seen(2, 4, 0.99)]), NOT_ANNOTATED)
    assert not found
    content["images"][1].update(not_exhaustive_category_ids=[], neg_category_ids=[4])
    found = of_kind(found_in(content, [*predictions(), seen(2, 4, 0.99)]), NOT_ANNOTATED)
    assert [label.image_id for label in found] == [2]


def test_one_place_is_one_missing_annotation() -> None:
    run = [*predictions(), seen(2, 1, 0.99), seen(2, 2, 0.95), seen(2, 1, 0.97)]
    assert len(of_kind(found_in(annotations(), run), NOT_ANNOTATED)) == 1


def test_all_runs_have_to_say_that_an_annotation_is_missing() -> None:
    one = [*predictions(), seen(2, 1, 0.99), seen(3, 1, 0.99)]
    moved = [FREE[0] + 2, *FREE[1:]]
    other = [*predictions(), seen(2, 1, 0.93, moved), seen(3, 2, 0.99)]
    (found,) = of_kind(found_in(annotations(), one, other), NOT_ANNOTATED)
    assert (found.image_id, found.score, list(found.box)) == (2, 0.93, FREE)


def test_objects_that_nothing_is_found_on_are_listed_where_their_class_is_found() -> None:
    """Class 1 is found in five of six images; class 4 in none, which says nothing of the labels."""
    run = [d for d in predictions() if (d["image_id"], d["bbox"]) != (3, box_of(1))]
    (found,) = of_kind(found_in(annotations(), run), NOT_FOUND)
    assert (found.image_id, found.annotated_as, found.predicted_as) == (3, NAMES[0], None)
    assert found.class_recall == pytest.approx(5 / 6)
    assert np.isnan(found.score)
    assert list(found.box) == box_of(1)


def test_of_a_model_that_finds_nothing_the_page_names_no_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("balms_seg.report.page._plotting_script", lambda: "")
    run = write_run(tmp_path / "run", tasks=("bbox",), confused=6)
    record = json.loads((run / "results.json").read_text())
    (metrics,) = record["metrics"].values()
    metrics["bbox"]["AP"] = 0.9
    (run / "results.json").write_text(json.dumps(record))
    json_file, _ = write_data(tmp_path / "data")
    (run / "suspicious_labels.csv").write_text("of an earlier evaluation")
    run_command("report", [str(run), "--ground-truth", str(json_file), "--resamples", "0"])
    text = (run / "report.html").read_text()
    assert "Nothing can be said yet: with an AP below 1" in text
    assert "the list is suspicious_labels.csv" not in text
    assert not (run / "suspicious_labels.csv").exists()
    assert "No suspicious_labels.csv: with an AP below 1 a model contradicts" in caplog.text


def test_the_page_and_the_list_have_every_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balms_seg.report.page._plotting_script", lambda: "")
    run = write_run(tmp_path / "run", tasks=("bbox",))
    found = [d for d in predictions() if (d["image_id"], d["bbox"]) != (3, box_of(1))]
    found.append(seen(2, 2, 0.99))
    (run / "inference" / "lvis_instances_results.json").write_text(json.dumps(found))
    json_file, images = write_data(tmp_path / "data")
    places = ["--ground-truth", str(json_file), "--images", str(images)]
    run_command("report", [str(run), *places, "--resamples", "0"])
    with (run / "suspicious_labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = [row["kind"] for row in rows]
    assert kinds == ["not annotated"] + 6 * ["another class"] + ["not found"]  # by score
    assert (rows[0]["annotated_as"], rows[0]["predicted_as"]) == ("n/a", NAMES[1])
    assert (rows[7]["score"], rows[7]["class_recall"]) == ("n/a", "0.833")
    ids = {str(entry["id"]): entry for entry in json.loads(json_file.read_text())["annotations"]}
    assert rows[0]["annotation_id"] == "n/a"
    assert ids[rows[7]["annotation_id"]]["bbox"] == box_of(1)
    assert str(ids[rows[7]["annotation_id"]]["image_id"]) == rows[7]["image_id"]
    text = (run / "report.html").read_text()
    assert "6 another class, 1 not annotated, 1 not found" in text
    assert "nothing annotated" in text[text.index("Labels to look at") :]
    assert f'<td class="text">{rows[7]["annotation_id"]}</td>' in text
