import numpy as np
import pytest
from lvis_cases import annotation, dataset, detection, random_case

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


def test_pool_has_objects_of_every_size() -> None:
    small, large = BOX, [0.0, 0.0, 60.0, 60.0]
    truth = load_ground_truth(
        dataset([annotation(1, 1, small), annotation(2, 1, large)], num_images=2)
    )
    found = fixed_and_pooled_ap(truth, [detection(2, 1, large, 0.9)], "bbox")
    assert found["AP_pool"] == pytest.approx(51 / 101)


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
