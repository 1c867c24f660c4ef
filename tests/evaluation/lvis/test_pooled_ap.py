from typing import Any

import numpy as np
import pytest
from lvis_cases import annotation, dataset, detection, random_case, run_lvis_api

from balms_seg.evaluation import evaluate_lvis, load_ground_truth
from balms_seg.evaluation.lvis.pooled_ap import fixed_and_pooled_ap

BOX = [10.0, 10.0, 20.0, 20.0]
AWAY = [45.0, 45.0, 10.0, 10.0]


def test_pool_ranks_all_classes_together() -> None:
    """Right, wrong, right: each class alone has AP 1 or 0.5."""
    truth = load_ground_truth(dataset([annotation(1, 1, BOX), annotation(1, 2, BOX)]))
    detections = [
        detection(1, 1, BOX, 0.9),
        detection(1, 2, AWAY, 0.8),
        detection(1, 2, BOX, 0.7),
    ]
    metrics = fixed_and_pooled_ap(truth, detections, "bbox")
    assert metrics["AP_fixed"] == pytest.approx(0.75)
    assert metrics["AP_pool"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert metrics["APr_pool"] == pytest.approx(1)
    assert metrics["APc_pool"] == pytest.approx(0.5)
    assert np.isnan(metrics["APf_pool"])
    assert np.isnan(metrics["APf_fixed"])


def test_fixed_limits_the_class_and_not_the_image() -> None:
    """300 better detections of class 1 fill the image that class 2 is in."""
    content = dataset([annotation(1, 1, BOX), annotation(1, 2, BOX)])
    crowd = [detection(1, 1, BOX, 0.9) for _ in range(300)]
    detections = [*crowd, detection(1, 2, BOX, 0.1)]
    assert evaluate_lvis(content, detections, "bbox").metrics["APc"] == 0
    truth = load_ground_truth(content)
    assert fixed_and_pooled_ap(truth, detections, "bbox")["APc_fixed"] == pytest.approx(1)


def test_limit_keeps_the_best_of_a_class_over_all_images() -> None:
    truth = load_ground_truth(dataset([annotation(1, 1, BOX), annotation(2, 1, BOX)], num_images=2))
    detections = [detection(2, 1, BOX, 0.2), detection(1, 1, BOX, 0.7)]
    found = fixed_and_pooled_ap(truth, detections, "bbox", max_per_class=1)
    assert found["AP_fixed"] == pytest.approx(51 / 101)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_without_limits_fixed_is_lvis_ap_without_its_cap(iou_type: str) -> None:
    content, detections = random_case(2)
    expected = evaluate_lvis(content, detections, iou_type, max_detections=10**6).metrics
    found = fixed_and_pooled_ap(load_ground_truth(content), detections, iou_type)
    for name in ("AP", "APr", "APc", "APf"):
        assert found[f"{name}_fixed"] == expected[name]
        assert 0 < found[f"{name}_pool"] < 1


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_pool_breaks_ties_as_the_authors_code(
    iou_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By image, then class: lvis-api's matches put in that order, as Dave et al. do."""
    pytest.importorskip("lvis")
    content, detections = random_case(5)
    for found in detections:
        found["score"] = round(found["score"], 1)
    reference = run_lvis_api(content, detections, iou_type, monkeypatch, max_detections=10**6)
    letters = [c["frequency"] for c in sorted(content["categories"], key=lambda c: c["id"])]
    metrics = fixed_and_pooled_ap(load_ground_truth(content), detections, iou_type)
    for name, group in {"AP": "rcf", "APr": "r", "APc": "c", "APf": "f"}.items():
        chosen = [k for k, letter in enumerate(letters) if letter in group]
        expected, other_order = (
            pooled_ap_by_the_book(reference, chosen, images_first=images_first)
            for images_first in (True, False)
        )
        assert metrics[f"{name}_pool"] == pytest.approx(expected, rel=1e-12)
        if name == "AP":
            assert abs(expected - other_order) > 1e-4


def pooled_ap_by_the_book(reference: Any, classes: list[int], *, images_first: bool) -> float:
    """AP of lvis-api's matches in one ranking; of ties the first in the order of concatenation."""
    num_images = len(reference.params.img_ids)
    places = [(i, k) for i in range(num_images) for k in classes]
    places = places if images_first else sorted(places, key=lambda place: place[1])
    at = len(reference.params.area_rng) * num_images  # entries of a class; those of all areas first
    found = [reference.eval_imgs[k * at + i] for i, k in places]
    found = [entry for entry in found if entry is not None]
    scores = np.concatenate([entry["dt_scores"] for entry in found])
    order = np.argsort(-scores, kind="stable")
    matched = np.concatenate([entry["dt_matches"] for entry in found], axis=1)[:, order] > 0
    ignored = np.concatenate([entry["dt_ignore"] for entry in found], axis=1)[:, order] > 0
    total = sum(int((entry["gt_ignore"] == 0).sum()) for entry in found)
    values = []
    for is_true, is_false in zip(matched & ~ignored, ~matched & ~ignored, strict=True):
        right, wrong = np.cumsum(is_true), np.cumsum(is_false)
        precision = right / (right + wrong + np.spacing(1))
        for level in np.linspace(0, 1, 101):
            reached = precision[right / total >= level]
            values.append(reached.max() if len(reached) else 0.0)
    return float(np.mean(values))
