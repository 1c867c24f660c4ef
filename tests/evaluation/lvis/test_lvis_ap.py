import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils
import pytest
from lvis_cases import (
    ALL_METRICS,
    METRICS,
    annotation,
    data_jsons,
    dataset,
    detection,
    ground_truth_as_detections,
    made_up_lvis,
    random_case,
    run_lvis_api,
)

from balms_seg.evaluation import LVISResult, evaluate_lvis
from balms_seg.evaluation.lvis.masks import mask_areas

BOX = [10.0, 10.0, 20.0, 20.0]
ELSEWHERE = [40.0, 40.0, 20.0, 20.0]
TASKS = pytest.mark.parametrize("iou_type", ["bbox", "segm"])


def no_minus_one(values: Any) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return np.where(values < 0, np.nan, values)


def assert_equal_to_lvis_api(result: LVISResult, reference: Any) -> None:
    np.testing.assert_array_equal(result.precision, no_minus_one(reference.eval["precision"]))
    np.testing.assert_array_equal(result.recall, no_minus_one(reference.eval["recall"]))
    expected = {name.split("@")[0]: value for name, value in reference.results.items()}
    assert set(expected) == set(METRICS)
    assert set(result.metrics) == set(ALL_METRICS)
    np.testing.assert_allclose(
        [result.metrics[name] for name in METRICS],
        no_minus_one([expected[name] for name in METRICS]),
        rtol=1e-12,
        equal_nan=True,
    )


@TASKS
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("max_detections", [300, 15])
def test_equals_lvis_api_per_class_and_per_group(
    iou_type: str, seed: int, max_detections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, detections = random_case(seed)
    result = evaluate_lvis(content, detections, iou_type, max_detections=max_detections)
    reference = run_lvis_api(
        content, detections, iou_type, monkeypatch, max_detections=max_detections
    )
    assert 0.05 < result.metrics["AP"] < 0.95
    assert_equal_to_lvis_api(result, reference)


@TASKS
def test_ground_truth_as_detections_scores_one(iou_type: str) -> None:
    content, _ = random_case(3)
    content["annotations"] = [a for a in content["annotations"] if not a["ignore"]]
    result = evaluate_lvis(content, ground_truth_as_detections(content), iou_type)
    assert result.metrics == pytest.approx(dict.fromkeys(ALL_METRICS, 1.0), abs=1e-12)


@TASKS
def test_no_detections_score_zero(iou_type: str) -> None:
    content, _ = random_case(3)
    result = evaluate_lvis(content, [], iou_type)
    assert result.metrics == dict.fromkeys(ALL_METRICS, 0.0)


@pytest.mark.data
@TASKS
@pytest.mark.parametrize("index", [0, 1])
def test_both_oracles_hold_on_real_annotations(
    iou_type: str, index: int, shared_data: Path
) -> None:
    path = data_jsons(shared_data)[index]
    content = json.loads(path.read_text())
    perfect = evaluate_lvis(path, ground_truth_as_detections(content), iou_type)
    nothing = evaluate_lvis(path, [], iou_type)
    sizes = perfect.group_sizes
    for letter, name in zip("rcf", ("rare", "common", "frequent"), strict=True):
        if sizes[name]["with_ground_truth"]:
            assert perfect.metrics[f"AP{letter}"] == pytest.approx(1, abs=1e-12)
            assert nothing.metrics[f"AP{letter}"] == 0
        else:
            assert np.isnan(perfect.metrics[f"AP{letter}"])
            assert np.isnan(nothing.metrics[f"AP{letter}"])
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR"):
        assert perfect.metrics[name] == pytest.approx(1, abs=1e-12)
        assert nothing.metrics[name] == 0


@pytest.mark.data
@TASKS
@pytest.mark.parametrize("index", [0, 1])
def test_equals_lvis_api_on_perturbed_real_annotations(
    iou_type: str, index: int, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads(data_jsons(shared_data)[index].read_text())
    rng = np.random.default_rng(0)
    detections = ground_truth_as_detections(content)
    categories = [category["id"] for category in content["categories"]]
    for found, other in zip(detections, rng.permutation(len(detections)), strict=True):
        found["score"] = round(float(rng.random()), 1)
        x, y, width, height = found["bbox"]
        found["bbox"] = [x + width * rng.normal(0, 0.1), y, width * rng.uniform(0.7, 1.3), height]
        if rng.random() < 0.3:
            found["category_id"] = int(rng.choice(categories))
        elif rng.random() < 0.3 and detections[other]["image_id"] == found["image_id"]:
            found["segmentation"] = detections[other]["segmentation"]
    result = evaluate_lvis(content, detections, iou_type)
    assert_equal_to_lvis_api(result, run_lvis_api(content, detections, iou_type, monkeypatch))


@pytest.mark.data
@TASKS
@pytest.mark.parametrize("index", [0, 1])
def test_equals_lvis_api_where_real_images_are_crowded_tied_and_hold_degenerate_shapes(
    iou_type: str, index: int, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than 300 an image, three scores, empty masks, boxes without area, ignored objects."""
    content = json.loads(data_jsons(shared_data)[index].read_text())
    rng = np.random.default_rng(1)
    for entry in content["annotations"]:
        entry["ignore"] = int(rng.random() < 0.1)
    for image in content["images"]:
        present = {a["category_id"] for a in content["annotations"] if a["image_id"] == image["id"]}
        image["not_exhaustive_category_ids"] = sorted(present)[::2]
    perfect = ground_truth_as_detections(content)
    crowded = perfect[0]["image_id"]
    detections = []
    for copy_number in range(3):
        for found in perfect:
            x, y, width, height = found["bbox"]
            is_degenerate = rng.random() < 0.05
            box = [x + copy_number * width * 0.1, y, 0.0 if is_degenerate else width, height]
            detections.append({**found, "bbox": box, "score": int(rng.integers(1, 4)) / 4})
            if is_degenerate:
                size = found["segmentation"]["size"]
                empty = {"size": size, "counts": [size[0] * size[1]]}
                detections[-1]["segmentation"] = mask_utils.frPyObjects(empty, *size)
    own = [found for found in detections if found["image_id"] == crowded]
    detections += [dict(found) for found in own * 200]
    assert sum(found["image_id"] == crowded for found in detections) > 300
    result = evaluate_lvis(content, detections, iou_type)
    assert_equal_to_lvis_api(result, run_lvis_api(content, detections, iou_type, monkeypatch))


@TASKS
def test_detection_of_an_unverified_class_is_not_counted(iou_type: str) -> None:
    """Image 2 says nothing about class 1, so a detection there cannot be false."""
    content = dataset([annotation(1, 1, BOX), annotation(2, 2, BOX)], num_images=2)
    detections = [detection(1, 1, BOX, 0.5), detection(2, 1, BOX, 0.9)]
    assert evaluate_lvis(content, detections, iou_type).class_ap[0] == pytest.approx(1)


@TASKS
def test_detection_of_a_verified_negative_is_false(iou_type: str) -> None:
    content = dataset([annotation(1, 1, BOX)], num_images=2, negatives={2: [1]})
    detections = [detection(1, 1, BOX, 0.5), detection(2, 1, BOX, 0.9)]
    result = evaluate_lvis(content, detections, iou_type)
    assert result.class_ap[0] == pytest.approx(0.5)
    assert result.class_ar[0] == 1


@TASKS
@pytest.mark.parametrize(("not_exhaustive", "expected"), [({1: [1]}, 1.0), ({}, 0.5)])
def test_unmatched_detection_is_ignored_where_not_exhaustive(
    iou_type: str, not_exhaustive: dict[int, list[int]], expected: float
) -> None:
    content = dataset([annotation(1, 1, BOX)], not_exhaustive=not_exhaustive)
    detections = [detection(1, 1, BOX, 0.5), detection(1, 1, ELSEWHERE, 0.9)]
    assert evaluate_lvis(content, detections, iou_type).class_ap[0] == pytest.approx(expected)


def test_cap_comes_before_the_federated_rule() -> None:
    """The uncounted detection of class 2 takes the only place of its image."""
    content = dataset([annotation(1, 1, BOX)])
    detections = [detection(1, 1, BOX, 0.5), detection(1, 2, BOX, 0.9)]
    assert evaluate_lvis(content, detections, "bbox", max_detections=1).class_ap[0] == 0
    assert evaluate_lvis(content, detections, "bbox", max_detections=2).class_ap[0] > 0.99


def test_mask_size_decides_the_area_range_of_masks() -> None:
    """A detection of 40 x 40 px box and 20 x 20 px mask is medium as a box and small as a mask."""
    content = dataset([annotation(1, 1, BOX)], negatives={1: [2]})
    content["annotations"].append(annotation(1, 2, [0, 0, 30, 30], id=2))
    found = {**detection(1, 2, [30, 30, 20, 20], 0.9), "bbox": [20.0, 20.0, 40.0, 40.0]}
    detections = [found, detection(1, 2, [0, 0, 30, 30], 0.5)]
    assert evaluate_lvis(content, detections, "bbox").precision[0, 0, 1, 1] == pytest.approx(1)
    assert evaluate_lvis(content, detections, "segm").precision[0, 0, 1, 1] == pytest.approx(0.5)


def test_group_average_lies_within_its_classes() -> None:
    content, detections = random_case(4)
    result = evaluate_lvis(content, detections, "bbox")
    for letter in "rcf":
        aps = result.class_ap[np.array(result.frequency) == letter]
        recalls = result.class_ar[np.array(result.frequency) == letter]
        assert result.metrics[f"AR{letter}"] == pytest.approx(np.nanmean(recalls))
        assert np.nanmin(aps) <= result.metrics[f"AP{letter}"] <= np.nanmax(aps)
    assert result.metrics["AP"] == pytest.approx(np.nanmean(result.class_ap))


def test_classes_and_groups_without_ground_truth_are_nan() -> None:
    result = evaluate_lvis(dataset([annotation(1, 2, BOX)], frequency="rcc"), [], "bbox")
    np.testing.assert_array_equal(result.class_ap, [np.nan, 0, np.nan])
    assert np.isnan(result.metrics["APr"])
    assert np.isnan(result.metrics["APf"])
    assert result.metrics["APc"] == 0
    assert result.group_sizes == {
        "rare": {"classes": 1, "with_ground_truth": 0},
        "common": {"classes": 2, "with_ground_truth": 1},
        "frequent": {"classes": 0, "with_ground_truth": 0},
    }


def test_order_of_detections_does_not_matter_without_ties() -> None:
    content, detections = random_case(5)
    for i, found in enumerate(detections):
        found["score"] = 1 / (i + 2)
    forward = evaluate_lvis(content, detections, "segm")
    backward = evaluate_lvis(content, detections[::-1], "segm")
    np.testing.assert_array_equal(forward.precision, backward.precision)


def test_masks_without_area_are_not_counted() -> None:
    content = dataset([annotation(1, 1, BOX)])
    empty = {**detection(1, 1, BOX, 0.9)}
    empty["segmentation"] = {"size": [64, 64], "counts": [64 * 64]}
    detections = [empty, detection(1, 1, BOX, 0.5)]
    assert evaluate_lvis(content, detections, "segm").class_ap[0] == pytest.approx(1)


def test_annotation_with_id_zero_can_be_found() -> None:
    content = dataset([annotation(1, 1, BOX, id=0)])
    assert evaluate_lvis(content, [detection(1, 1, BOX, 0.5)], "bbox").class_ap[0] > 0.99


def test_inputs_are_not_changed() -> None:
    content, detections = random_case(6, num_images=3)
    before = copy.deepcopy((content, detections))
    evaluate_lvis(content, detections, "segm")
    assert (content, detections) == before


def test_long_lists_of_masks_have_the_right_areas() -> None:
    rles = [detection(1, 1, [0, 0, 8, side], 1)["segmentation"] for side in range(1, 61)] * 10
    np.testing.assert_array_equal(mask_areas(rles), [8.0 * side for side in range(1, 61)] * 10)
    assert mask_areas([]).shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 99}, "image_id 99"),
        ({"category_id": 99}, "category_id 99"),
        (
            {"score": float("nan")},
            "Detection 1 cannot be used: Expected finite scores, but got nan",
        ),
        ({"bbox": [0.0, 0.0, float("nan"), 1.0]}, "expected finite numbers"),
    ],
)
def test_wrong_detection_is_named(change: dict[str, Any], message: str) -> None:
    content = dataset([annotation(1, 1, BOX)])
    detections = [detection(1, 1, BOX, 0.5), {**detection(1, 1, BOX, 0.5), **change}]
    with pytest.raises(ValueError, match=message):
        evaluate_lvis(content, detections, "bbox")


def test_only_the_first_wrong_detections_are_named() -> None:
    content = dataset([annotation(1, 1, BOX)])
    detections = [detection(100 + i, 1, BOX, 0.5) for i in range(20)] + [detection(1, 1, BOX, 0.5)]
    with pytest.raises(ValueError, match="20 of 21") as error:
        evaluate_lvis(content, detections, "bbox")
    assert "image_id 104" in str(error.value)
    assert "image_id 105" not in str(error.value)


def test_mask_of_another_size_is_an_error() -> None:
    content = dataset([annotation(1, 1, BOX)])
    found = detection(1, 1, BOX, 0.5)
    found["segmentation"] = {"size": [32, 32], "counts": [0, 32 * 32]}
    with pytest.raises(ValueError, match=r"image 1: .*\(64, 64\), but got \(32, 32\)"):
        evaluate_lvis(content, [found], "segm")


def test_detections_without_masks_are_an_error_for_masks_only() -> None:
    content = dataset([annotation(1, 1, BOX)])
    found = detection(1, 1, BOX, 0.5)
    del found["segmentation"]
    assert evaluate_lvis(content, [found], "bbox").metrics["AP"] == pytest.approx(1)
    with pytest.raises(ValueError, match="'segmentation' in every detection"):
        evaluate_lvis(content, [found], "segm")


def test_ground_truth_without_masks_is_an_error_for_masks_only() -> None:
    content = dataset([annotation(1, 1, BOX, segmentation=[])])
    assert evaluate_lvis(content, [detection(1, 1, BOX, 0.5)], "bbox").metrics["AP"] > 0.99
    with pytest.raises(ValueError, match="a mask for every annotation"):
        evaluate_lvis(content, [], "segm")


def test_results_of_another_data_set_are_recognised() -> None:
    detections = [detection(100 + i, 1, BOX, 0.5) for i in range(20)]
    with pytest.raises(ValueError, match="none of the 20 detections .*results of another data set"):
        evaluate_lvis(dataset([annotation(1, 1, BOX)]), detections, "bbox")


@TASKS
def test_lvis_backend_gives_the_same_tables(iou_type: str) -> None:
    content, detections = random_case(7)
    ours = evaluate_lvis(content, detections, iou_type, max_detections=20)
    theirs = evaluate_lvis(content, detections, iou_type, max_detections=20, backend="lvis")
    np.testing.assert_array_equal(ours.precision, theirs.precision)
    np.testing.assert_array_equal(ours.recall, theirs.recall)
    assert ours.group_sizes == theirs.group_sizes
    assert not hasattr(np, "float")


def test_lvis_backend_takes_ids_that_cannot_be_sorted() -> None:
    names = {1: -5, 2: "a b", 3: "007", 4: 2**63 - 1}
    found = [detection(image, 1 + image % 2, BOX, image / 5) for image in names]
    content = dataset([annotation(image, 1, BOX) for image in names], num_images=4)
    expected = evaluate_lvis(content, found, "bbox")
    for entry in content["images"]:
        entry["id"] = names[entry["id"]]
    for entry in (*content["annotations"], *found):
        entry.update(image_id=names[entry["image_id"]], category_id=f"c{entry['category_id']}")
    for entry in content["categories"]:
        entry["id"] = f"c{entry['id']}"
    for entry in content["images"]:
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            entry[key] = [f"c{identifier}" for identifier in entry[key]]
    for backend in ("numpy", "lvis"):
        metrics = evaluate_lvis(content, found, "bbox", backend=backend).metrics
        assert metrics["AP"] == pytest.approx(expected.metrics["AP"], abs=1e-12)
    with pytest.raises(ValueError, match="a detection has 'elsewhere'"):
        evaluate_lvis(content, [{**found[0], "image_id": "elsewhere"}], "bbox", backend="lvis")


@pytest.mark.slow
@TASKS
@pytest.mark.parametrize(("num_images", "per_image"), [(200, 300), (1000, 40)])
def test_equals_lvis_api_on_made_up_data_of_many_classes(
    iou_type: str, num_images: int, per_image: int
) -> None:
    """The 5,000 images of docs/results/evaluation.md are compared by the benchmark itself."""
    content, detections = made_up_lvis(num_images, per_image, with_masks=iou_type == "segm")
    ours = evaluate_lvis(content, detections, iou_type)
    theirs = evaluate_lvis(content, detections, iou_type, backend="lvis")
    assert 0.05 < ours.metrics["AP"] < 0.95
    np.testing.assert_allclose(ours.precision, theirs.precision, rtol=0, atol=1e-10)
    np.testing.assert_allclose(ours.recall, theirs.recall, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "arguments",
    [
        {"iou_type": "keypoints"},
        {"max_detections": 0},
        {"backend": "rust"},
        {"iou_type": "boundary", "backend": "lvis"},
    ],
)
def test_unknown_arguments_are_rejected(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Expected|lvis-api has no"):
        evaluate_lvis(dataset([]), [], **{"iou_type": "bbox", **arguments})


def test_needs_neither_lvis_nor_detectron2_nor_a_patched_numpy() -> None:
    program = (
        "import sys; sys.modules.update(lvis=None, detectron2=None)\n"
        "import numpy as np, balms_seg.evaluation as e\n"
        "content = dict(images=[], annotations=[], categories=[dict(id=1, frequency='r')])\n"
        "e.evaluate_lvis(content, [], 'segm')\n"
        "assert not hasattr(np, 'float')"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
