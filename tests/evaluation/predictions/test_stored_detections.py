"""What is read of a result file gives the same tables as all of it, with a part of it in memory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lvis_cases import annotation, dataset, detection, random_case

from balms_seg.evaluation import evaluate_lvis, load_ground_truth, read_detections
from balms_seg.evaluation.lvis.pooled_ap import fixed_and_pooled_ap
from balms_seg.evaluation.predictions import detection_file
from balms_seg.evaluation.predictions import stored_detections as module
from balms_seg.evaluation.predictions.stored_detections import (
    StoredDetections,
    read_stored_detections,
)

BOX = [10.0, 10.0, 20.0, 20.0]


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection_file, "BATCH_SIZE", 7)


def stored(
    folder: Path, content: dict[str, Any], detections: list[Any], **options: Any
) -> StoredDetections:
    path = folder / "found.json"
    path.write_text(json.dumps(detections))
    return read_stored_detections(
        path, load_ground_truth(content), **{"max_detections": 300, **options}
    )


def with_text_masks(detections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for found in detections:
        mask = found["segmentation"]
        if isinstance(mask, dict) and isinstance(mask["counts"], bytes):
            found["segmentation"] = {**mask, "counts": mask["counts"].decode()}
    return detections


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("max_detections", [300, 5])
def test_images_in_any_order_give_the_tables_of_the_whole_file(
    tmp_path: Path, task: str, max_detections: int
) -> None:
    content, detections = random_case(3)
    detections = with_text_masks(detections)
    np.random.default_rng(0).shuffle(detections)
    found = stored(tmp_path, content, detections, max_detections=max_detections)
    assert found.number == len(detections) > len(found.capped)
    assert found.shape_keys == ("bbox", "segmentation")
    expected = evaluate_lvis(content, detections, task, max_detections=max_detections)
    tables = evaluate_lvis(content, found.capped, task, max_detections=None)
    np.testing.assert_array_equal(tables.precision, expected.precision)
    np.testing.assert_array_equal(tables.recall, expected.recall)


@pytest.mark.parametrize("max_per_class", [1, 10, 10_000])
def test_the_best_of_each_class_give_fixed_and_pooled_ap(
    tmp_path: Path, max_per_class: int
) -> None:
    content, detections = random_case(4)
    detections = with_text_masks(detections)
    found = stored(tmp_path, content, detections, max_detections=2, max_per_class=max_per_class)
    truth = load_ground_truth(content)
    expected = fixed_and_pooled_ap(truth, detections, "bbox", max_per_class=max_per_class)
    assert fixed_and_pooled_ap(truth, found.best_of_classes, "bbox") == expected


def test_a_fault_behind_the_first_batch_is_named_by_its_position(tmp_path: Path) -> None:
    content = dataset([annotation(1, 1, BOX)])
    good = detection(1, 1, BOX, 0.5)
    for bad, message in [
        ({**good, "score": float("nan")}, r"1 of 3 detections from position 7 .*#9 image_id 1"),
        ({**good, "category_id": 77}, r"1 of 3 detections from position 7 .*#9 category_id 77"),
        ({"image_id": 1}, r"'category_id' in each, but 1 of 3 .* the first at position 9"),
    ]:
        with pytest.raises(ValueError, match=message):
            stored(tmp_path, content, [*[good] * 9, bad])


@pytest.mark.parametrize("ids", [[3, 4, 3], ["a", 3, "a"], [2**70, 1, 2**70]])
def test_an_id_that_comes_twice_is_found_batches_apart(tmp_path: Path, ids: list[Any]) -> None:
    others = [{**detection(1, 1, BOX, 0.5), "id": 1000 + i} for i in range(20)]
    found = [{**others[0], "id": id_} for id_ in ids]
    path = tmp_path / "found.json"
    path.write_text(json.dumps([found[0], *others, *found[1:]]))
    with pytest.raises(ValueError, match="Expected different ids, but 1 of "):
        read_detections(path)


def test_too_little_memory_is_said_before_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = dataset([annotation(1, 1, BOX)])
    assert module.available_memory_bytes() is None or module.available_memory_bytes() > 1 << 20
    monkeypatch.setattr(module, "available_memory_bytes", lambda: 20_000)
    monkeypatch.setattr(module, "_kept", lambda *_: pytest.fail("read all the same"))
    with pytest.raises(ValueError, match="room for the 100 detections .*GiB of memory remain"):
        stored(tmp_path, content, [detection(1, 1, BOX, 0.5)] * 100)
