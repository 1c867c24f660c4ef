"""AP on files with crowds, areas of 0 and flat polygons, against lvis-api and pycocotools."""

import contextlib
import copy
import io
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils
import pytest
from lvis_cases import METRICS, random_case, run_lvis_api, to_rle

from balms_seg.evaluation import evaluate_lvis

# pycocotools' summary, in its order; recall at 100 detections is what ours is at 300.
COCO_METRICS = {0: "AP", 1: "AP50", 2: "AP75", 3: "APs", 4: "APm", 5: "APl"}
COCO_METRICS |= {8: "AR", 9: "ARs", 10: "ARm", 11: "ARl"}


def near(metrics: dict[str, float]) -> Any:
    return pytest.approx(metrics, abs=1e-10, nan_ok=True)


def with_crowds(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A case in which a tenth of the annotations are crowd regions with several detections."""
    content, detections = random_case(seed)
    rng = np.random.default_rng(seed)
    for entry in content["annotations"]:
        entry.pop("ignore")
        entry["iscrowd"] = int(rng.random() < 0.1)
    return content, detections


def without_lists(content: dict[str, Any]) -> dict[str, Any]:
    content = copy.deepcopy(content)
    for image in content["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    return content


def pycocotools_metrics(
    content: dict[str, Any], detections: list[dict[str, Any]], task: str
) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    detections = copy.deepcopy(detections)
    for found in detections:
        if task == "segm":
            del found["bbox"]  # else the area of a detection would be its box's
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = copy.deepcopy(content)
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(detections), task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = np.where(evaluation.stats < 0, np.nan, evaluation.stats)
    return {name: float(stats[place]) for place, name in COCO_METRICS.items()}


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_crowds_without_lvis_lists_count_as_in_pycocotools(seed: int, task: str) -> None:
    content, detections = with_crowds(seed)
    content = without_lists(content)
    expected = pycocotools_metrics(content, detections, task)
    metrics = evaluate_lvis(content, detections, task).metrics
    assert {name: metrics[name] for name in expected} == pytest.approx(
        expected, abs=1e-10, nan_ok=True
    )
    for entry in content["annotations"]:
        entry["iscrowd"] = 0
    assert abs(evaluate_lvis(content, detections, task).metrics["AP"] - expected["AP"]) > 1e-3


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("change", ["crowds", "areas"])
def test_files_with_lvis_lists_count_as_in_lvis_api(
    change: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lvis")
    content, detections = with_crowds(5)
    if change == "areas":
        for number, entry in enumerate(content["annotations"]):
            entry["area"] = (0, -3.0, float("nan"), entry["area"])[min(number % 12, 3)]
    reference = run_lvis_api(content, detections, task, monkeypatch).get_results()
    expected = {name: reference.get(name, reference.get(f"{name}@300")) for name in METRICS}
    metrics = evaluate_lvis(content, detections, task).metrics
    assert {name: metrics[name] for name in METRICS} == pytest.approx(
        expected, abs=1e-10, nan_ok=True
    )
    checked = [{**found, "bbox": found["bbox"]} for found in detections]
    other = evaluate_lvis(content, checked, task, backend="lvis").metrics
    assert {name: other[name] for name in METRICS} == pytest.approx(
        expected, abs=1e-10, nan_ok=True
    )


@pytest.mark.parametrize("areas", [[0.0], [-3.0], [0.0, 500.0, float("nan")]])
def test_odd_areas_without_lvis_lists_count_as_in_pycocotools(areas: list[float]) -> None:
    content, detections = random_case(6)
    content = without_lists(content)
    for number, entry in enumerate(content["annotations"]):
        entry.update(ignore=0, iscrowd=0)
        if number % 4 == 0:
            entry["area"] = areas[number // 4 % len(areas)]
    expected = pycocotools_metrics(content, detections, "bbox")
    metrics = evaluate_lvis(content, detections, "bbox").metrics
    assert {name: metrics[name] for name in expected} == pytest.approx(
        expected, abs=1e-10, nan_ok=True
    )


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_detections_without_area_are_false_without_lvis_lists(task: str) -> None:
    content, detections = random_case(9)
    content = without_lists(content)
    for entry in content["annotations"]:
        entry.update(ignore=0, iscrowd=0)
    whole = evaluate_lvis(content, detections, task).metrics["AP"]
    empty = to_rle([[1.0] * 6], content["images"][0]["height"])
    assert mask_utils.area(empty) == 0
    for number, found in enumerate(detections[::3]):
        found["bbox"][2] = (0.0, -4.0)[number % 2]
        found["segmentation"] = empty
        found["score"] = 0.9 + number / 1000
    expected = pycocotools_metrics(content, detections, task)
    metrics = evaluate_lvis(content, detections, task).metrics
    assert {name: metrics[name] for name in expected} == near(expected)
    assert metrics["AP"] < whole - 0.01


@pytest.mark.parametrize("backend", ["numpy", "lvis"])
@pytest.mark.parametrize("polygons", [[[]], [[1.0, 2.0, 30.0, 40.0]], [], None, "absent"])
def test_boxes_do_not_care_for_masks(
    polygons: Any, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lvis")
    content, detections = random_case(7)
    expected = run_lvis_api(content, detections, "bbox", monkeypatch).get_results()
    for entry in content["annotations"][::2]:
        entry["segmentation"] = polygons
        if polygons == "absent":
            del entry["segmentation"]
    metrics = evaluate_lvis(content, detections, "bbox", backend=backend).metrics
    assert metrics["AP"] == pytest.approx(expected["AP"], abs=1e-10)


def test_absent_boxes_and_areas_follow_from_the_masks_for_every_metric() -> None:
    content, detections = random_case(8)
    expected = evaluate_lvis(content, detections, "bbox").metrics
    side = content["images"][0]["height"]
    for number, entry in enumerate(content["annotations"]):
        entry["bbox"] = (None, [])[number % 2]
        entry["area"] = (None, [])[number // 2 % 2]
    assert evaluate_lvis(content, detections, "bbox").metrics == pytest.approx(
        expected, abs=1e-10, nan_ok=True
    )
    for entry in content["annotations"]:
        entry["segmentation"] = to_rle(entry["segmentation"], side)
    # RLE knows whole pixels, so boxes and areas are near only.
    metrics = evaluate_lvis(content, detections, "bbox").metrics
    assert metrics["AP50"] == pytest.approx(expected["AP50"], abs=0.05)


def test_ids_as_text_are_those_of_the_annotations() -> None:
    content, detections = random_case(9)
    expected = evaluate_lvis(content, detections, "bbox").metrics
    for entry in (*content["annotations"], *detections[::2]):
        entry["image_id"] = str(entry["image_id"])
        entry["category_id"] = float(entry["category_id"])
    assert evaluate_lvis(content, detections, "bbox").metrics == near(expected)
