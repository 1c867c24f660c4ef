import csv
import dataclasses
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.evaluation import print_csv_format
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.structures import Boxes, Instances
from lvis_cases import ALL_METRICS, SIDE_PX, annotation, dataset

from balms_seg import ClassStatistics, add_balms_config
from balms_seg.evaluation import LongTailedLVISEvaluator
from balms_seg.evaluation.evaluator_choice import _warn_of_few_detections, build_evaluator
from balms_seg.evaluation.predictions.match_file import read_matches
from balms_seg.evaluation.registered_set import RegisteredSet

NAME = "evaluator_test_set"
BOX = [10.0, 10.0, 20.0, 20.0]


def instances(boxes: list[list[float]], classes: list[int], *, masks: bool = True) -> Instances:
    """Predictions of score 0.5 in x, y, width, height."""
    xywh = torch.tensor(boxes).reshape(-1, 4)
    predicted = Instances((SIDE_PX, SIDE_PX))
    predicted.pred_boxes = Boxes(torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1))
    predicted.scores = torch.full((len(boxes),), 0.5)
    predicted.pred_classes = torch.tensor(classes, dtype=torch.int64)
    if masks:
        predicted.pred_masks = torch.zeros(len(boxes), SIDE_PX, SIDE_PX, dtype=torch.bool)
        for mask, (x, y, width, height) in zip(predicted.pred_masks, boxes, strict=True):
            mask[int(y) : int(y + height), int(x) : int(x + width)] = True
    return predicted


@pytest.fixture
def metadata(tmp_path: Path) -> Iterator[Any]:
    """A registered set of two images; its category ids 1, 2, 3 are the classes 2, 0, 1."""
    content = dataset([annotation(1, 1, BOX), annotation(2, 2, BOX)], num_images=2)
    path = tmp_path / "val.json"
    path.write_text(json.dumps(content))
    entry = MetadataCatalog.get(NAME).set(
        json_file=str(path),
        evaluator_type="lvis",
        thing_classes=["two", "three", "one"],
        thing_dataset_id_to_contiguous_id={1: 2, 2: 0, 3: 1},
        class_image_count=[{"id": 1, "image_count": 5}, {"id": 2, "image_count": 50}],
    )
    yield entry
    MetadataCatalog.pop(NAME)


def process(evaluator: Any, predictions: dict[int, Instances]) -> None:
    for image_id, predicted in predictions.items():
        evaluator.process([{"image_id": image_id}], [{"instances": predicted}])


@pytest.mark.usefixtures("metadata")
def test_results_are_percentages_under_the_names_of_detectron2(tmp_path: Path) -> None:
    evaluator = LongTailedLVISEvaluator(NAME, output_dir=str(tmp_path / "out"))
    process(evaluator, {1: instances([BOX], [2]), 2: instances([], [])})
    results = evaluator.evaluate()
    assert list(results) == ["bbox", "segm"]
    for metrics in results.values():
        assert set(metrics) == set(ALL_METRICS)
        assert metrics["AP"] == pytest.approx(50)
        assert metrics["APr"] == pytest.approx(100)
        assert metrics["APc"] == 0
        assert math.isnan(metrics["APf"])
    assert evaluator.group_sizes["frequent"] == {"classes": 1, "with_ground_truth": 0}


def torchvision_output(predicted: Instances, labels: list[int]) -> dict[str, torch.Tensor]:
    output = {
        "boxes": predicted.pred_boxes.tensor,
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": predicted.scores,
    }
    if predicted.has("pred_masks"):
        output["masks"] = 0.25 + 0.5 * predicted.pred_masks[:, None].float()
    return output


@pytest.mark.usefixtures("metadata")
@pytest.mark.parametrize("masks", [True, False])
def test_outputs_of_torchvision_give_the_same_results(masks: bool) -> None:
    """Its labels are the json's category ids, its boxes have corners, its masks probabilities."""
    ours, theirs = LongTailedLVISEvaluator(NAME), LongTailedLVISEvaluator(NAME)
    near = [BOX[0] + 2, *BOX[1:]]
    for image_id, boxes, labels in ((1, [BOX, near], [1, 2]), (2, [near], [2])):
        predicted = instances(boxes, [{1: 2, 2: 0}[label] for label in labels], masks=masks)
        process(ours, {image_id: predicted})
        theirs.process([{"image_id": image_id}], [torchvision_output(predicted, labels)])
    expected = ours.evaluate()
    assert 0 < expected["bbox"]["AP"] < 100
    found = theirs.evaluate()
    assert list(found) == list(expected)
    for task, metrics in expected.items():
        assert found[task] == pytest.approx(metrics, nan_ok=True)


@pytest.mark.usefixtures("metadata")
def test_labels_of_torchvision_that_are_no_category_are_named() -> None:
    output = torchvision_output(instances([BOX], [0]), [0])
    with pytest.raises(ValueError, match=r"category ids .* but image 1 has \[0\]"):
        LongTailedLVISEvaluator(NAME).process([{"image_id": 1}], [output])
    with pytest.raises(ValueError, match="'instances', or torchvision's .* has \\['boxes'\\]"):
        LongTailedLVISEvaluator(NAME).process([{"image_id": 1}], [{"boxes": output["boxes"]}])


@pytest.mark.usefixtures("metadata")
def test_written_files_hold_ids_of_the_json(tmp_path: Path) -> None:
    evaluator = LongTailedLVISEvaluator(NAME, output_dir=str(tmp_path / "out"))
    process(evaluator, {1: instances([BOX], [2]), 2: instances([BOX], [1])})
    evaluator.evaluate()
    found = json.loads((tmp_path / "out" / "lvis_instances_results.json").read_text())
    assert [(d["image_id"], d["category_id"], d["bbox"]) for d in found] == [
        (1, 1, BOX),
        (2, 3, BOX),
    ]
    for task in ("bbox", "segm"):
        with (tmp_path / "out" / f"per_class_{task}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["name"] for row in rows] == ["two", "three", "one"]
        assert [row["group"] for row in rows] == ["common", "frequent", "rare"]
        assert [row["train_image_count"] for row in rows] == ["50", "n/a", "5"]
        assert [row["AP"] for row in rows] == ["0.0000", "n/a", "100.0000"]
        assert [row["missed"] for row in rows] == ["1", "0", "0"]
        stored = read_matches(tmp_path / "out" / f"matches_{task}.npz")
        assert (stored.task, stored.num_images) == (task, 2)
        groups = json.loads((tmp_path / "out" / f"calibration_{task}.json").read_text())["groups"]
        assert sum(groups["rare"]["counts"]) == 1


@pytest.mark.usefixtures("metadata")
def test_detections_of_another_evaluation_are_forgotten() -> None:
    evaluator = LongTailedLVISEvaluator(NAME)
    process(evaluator, {1: instances([BOX], [2]), 2: instances([BOX], [0])})
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)
    evaluator.reset()
    process(evaluator, {1: instances([], []), 2: instances([], [])})
    assert evaluator.evaluate()["bbox"]["AP"] == 0


@pytest.mark.usefixtures("metadata")
@pytest.mark.parametrize(
    ("masks", "tasks", "expected"),
    [
        (True, None, ["bbox", "segm"]),
        (False, None, ["bbox"]),
        (True, ("bbox",), ["bbox"]),
        (False, ("bbox", "segm"), ["bbox", "segm"]),
    ],
)
def test_tasks_do_not_depend_on_there_being_a_detection(
    masks: bool, tasks: tuple[str, ...] | None, expected: list[str]
) -> None:
    evaluator = LongTailedLVISEvaluator(NAME, tasks)
    process(evaluator, {i: instances([], [], masks=masks) for i in (1, 2)})
    results = evaluator.evaluate()
    assert list(results) == expected
    assert all(metrics["AP"] == 0 for metrics in results.values())


@pytest.mark.usefixtures("metadata")
def test_unprocessed_images_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    evaluator = LongTailedLVISEvaluator(NAME)
    assert evaluator.evaluate() == {}
    assert "No image was processed" in caplog.text
    process(evaluator, {1: instances([BOX], [2])})
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(50)
    assert "1 of 2 images of the ground truth was not processed" in caplog.text


@pytest.mark.usefixtures("metadata")
def test_class_outside_the_data_set_names_the_key() -> None:
    evaluator = LongTailedLVISEvaluator(NAME)
    process(evaluator, {1: instances([BOX], [3])})
    with pytest.raises(ValueError, match=r"\[0, 3\), but got 3 in image 1.*NUM_CLASSES to 3"):
        evaluator.evaluate()


@pytest.mark.usefixtures("metadata")
def test_results_pass_through_the_tools_of_detectron2(caplog: pytest.LogCaptureFixture) -> None:
    evaluator = LongTailedLVISEvaluator(NAME)
    process(evaluator, {1: instances([BOX], [2])})
    results = evaluator.evaluate()
    caplog.set_level(logging.INFO)
    print_csv_format(results)
    assert "copypaste: Task: segm" in caplog.text
    flat = flatten_results_dict(results)
    assert all(isinstance(float(value), float) for value in flat.values())
    assert "segm/APr" in flat


def test_groups_of_the_training_set_serve_a_json_without_frequency(
    metadata: Any, caplog: pytest.LogCaptureFixture
) -> None:
    content = json.loads(Path(metadata.json_file).read_text())
    for category in content["categories"]:
        del category["frequency"]
    Path(metadata.json_file).write_text(json.dumps(content))
    metadata.set(class_frequency=["c", "f", "r"])
    evaluator = LongTailedLVISEvaluator(NAME)
    process(evaluator, {1: instances([BOX], [2]), 2: instances([], [])})
    metrics = evaluator.evaluate()["bbox"]
    assert metrics["APr"] == pytest.approx(100)
    assert metrics["APc"] == 0
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "no frequency (classes are grouped by their number of training images" in warnings[0]


def test_wrong_number_of_groups_is_an_error(metadata: Any) -> None:
    metadata.set(class_frequency=["c", "f"])
    with pytest.raises(ValueError, match="Expected 3 entries in class_frequency.*got 2"):
        LongTailedLVISEvaluator(NAME)


def test_classes_missing_from_the_json_are_named(metadata: Any) -> None:
    vars(metadata)["thing_dataset_id_to_contiguous_id"] = {1: 0, 2: 1, 9: 2}
    with pytest.raises(ValueError, match=r"1 are missing, the first ids \[9\]"):
        LongTailedLVISEvaluator(NAME)


def test_json_without_annotations_leaves_the_detections_only(metadata: Any, tmp_path: Path) -> None:
    content = json.loads(Path(metadata.json_file).read_text())
    Path(metadata.json_file).write_text(json.dumps({**content, "annotations": []}))
    evaluator = LongTailedLVISEvaluator(NAME, output_dir=str(tmp_path / "out"))
    process(evaluator, {1: instances([BOX], [2])})
    assert evaluator.evaluate() == {}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"lvis_instances_results.json", "evaluation.json"}


@pytest.mark.parametrize("evaluator_type", ["lvis", "long_tailed", "coco"])
@pytest.mark.parametrize("mask_on", [True, False])
def test_config_decides_the_tasks(
    metadata: Any, evaluator_type: str, mask_on: bool, tmp_path: Path
) -> None:
    vars(metadata)["evaluator_type"] = evaluator_type
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = mask_on
    cfg.OUTPUT_DIR = str(tmp_path)
    evaluator = build_evaluator(cfg, NAME)
    process(evaluator, {1: instances([], [], masks=mask_on)})
    assert list(evaluator.evaluate()) == (["bbox", "segm"] if mask_on else ["bbox"])
    assert (tmp_path / "inference" / "per_class_bbox.csv").is_file()


def test_config_switches_reach_the_evaluation(
    metadata: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Class 1 has 5 training images, class 2 has 50; class 3 is unknown and joins no group."""
    cfg = get_cfg()
    add_balms_config(cfg)
    cfg.OUTPUT_DIR = str(tmp_path)
    options = cfg.TEST.LONG_TAILED
    options.GROUP_BOUNDS, options.AP_FIXED, options.BOUNDARY = [1, 5], True, True
    options.ERROR_KINDS, options.BACKEND, options.MAX_DETECTIONS = False, "lvis", 1
    cfg.TEST.DETECTIONS_PER_IMAGE, cfg.MODEL.MASK_ON = 1, True
    evaluator = build_evaluator(cfg, NAME)
    assert "raise TEST.DETECTIONS_PER_IMAGE above 1" in caplog.text
    found = instances([[40.0, 40.0, 9.0, 9.0], BOX], [1, 2])  # class 3, then class 1
    process(evaluator, {1: found, 2: instances([], [])})
    results = evaluator.evaluate()
    assert list(results) == ["bbox", "segm", "boundary"]
    for task in results:
        assert results[task]["AP"] == 0  # the other detection took the only place
        assert results[task]["APc_fixed"] == pytest.approx(100)  # here there is no cap
        assert results[task]["APf_fixed"] == 0
    assert evaluator.group_sizes["unknown"] == {"classes": 1, "with_ground_truth": 0}
    with (tmp_path / "inference" / "per_class_segm.csv").open(newline="") as file:
        assert "missed" not in next(csv.reader(file))


@pytest.mark.parametrize(
    ("evaluator_type", "kept", "lowest", "is_warned"),
    [
        ("lvis", 100, 0.05, True),
        ("lvis", 2, 0.0001, True),  # there are three classes
        ("lvis", 3, 0.0001, False),
        ("long_tailed", 2, 0.001, True),
        ("long_tailed", 100, 0.05, True),
        ("long_tailed", 100, 0.001, False),
        ("coco", 100, 0.05, True),
        ("coco", 100, 0.01, False),
    ],
)
@pytest.mark.parametrize("has_keys", [True, False])
def test_settings_of_coco_are_warned_of_where_the_evaluation_is_that_of_lvis(
    metadata: Any,
    caplog: pytest.LogCaptureFixture,
    evaluator_type: str,
    kept: int,
    lowest: float,
    is_warned: bool,
    has_keys: bool,
) -> None:
    """Once, and where the classifier was replaced in a project without our keys, too."""
    vars(metadata)["evaluator_type"] = evaluator_type
    cfg = get_cfg()
    if has_keys:
        add_balms_config(cfg)
    cfg.TEST.DETECTIONS_PER_IMAGE, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = kept, lowest
    _warn_of_few_detections.cache_clear()
    for _ in range(2):
        build_evaluator(cfg, NAME, "")
    values = f"DETECTIONS_PER_IMAGE is {kept} and MODEL.ROI_HEADS.SCORE_THRESH_TEST is {lowest:g}"
    assert caplog.text.count(values) == is_warned
    assert caplog.text.count("Set them to 300 and 0.0001") == is_warned
    assert ("as is usual for COCO" in caplog.text) == (is_warned and (kept, lowest) == (100, 0.05))


def test_an_image_holds_as_many_detections_as_it_has_objects_or_there_are_classes(
    metadata: Any,
) -> None:
    assert build_evaluator(get_cfg(), NAME, "").most_in_an_image == 3
    path = Path(metadata.json_file)
    content = json.loads(path.read_text())
    one = content["annotations"][0]
    content["annotations"] = [{**one, "id": 100 + number} for number in range(7)]
    path.write_text(json.dumps(content))
    assert build_evaluator(get_cfg(), NAME, "").most_in_an_image == 7


def statistics_of(image_counts: list[int]) -> ClassStatistics:
    """Of the classes "two", "three" and "one", with as many instances as images."""
    return ClassStatistics(
        np.array(image_counts),
        np.array(image_counts),
        num_images=500,
        class_names=("two", "three", "one"),
        group_names=("rare", "common", "frequent"),
        group_ids=np.array([2, 1, 0]),
    )


def groups_in(folder: Path) -> dict[str, tuple[str, str]]:
    with (folder / "per_class_bbox.csv").open(newline="") as file:
        return {r["name"]: (r["group"], r["train_image_count"]) for r in csv.DictReader(file)}


def test_groups_and_counts_come_from_the_training_set_where_the_json_has_none(
    metadata: Any, tmp_path: Path
) -> None:
    content = json.loads(Path(metadata.json_file).read_text())
    for category in content["categories"]:
        category.pop("frequency", None)
    Path(metadata.json_file).write_text(json.dumps(content))
    evaluator = LongTailedLVISEvaluator(
        NAME, output_dir=str(tmp_path / "out"), statistics=statistics_of([300, 40, 7])
    )
    process(evaluator, {1: instances([BOX], [2]), 2: instances([], [])})
    evaluator.evaluate()
    names = {c["id"]: c["name"] for c in content["categories"]}
    found = groups_in(tmp_path / "out")
    assert set(found.values()) == {("rare", "7"), ("frequent", "300"), ("common", "40")}
    assert len(found) == len(names)


def test_a_group_ends_with_its_bound(metadata: Any, tmp_path: Path) -> None:
    for counts, expected in (
        ([10, 11, 100], ["common", "common", "rare"]),
        ([11, 100, 101], ["common", "common", "frequent"]),
    ):
        evaluator = LongTailedLVISEvaluator(
            NAME,
            output_dir=str(tmp_path / "out"),
            statistics=statistics_of(counts),
            group_bounds=(10, 100),
        )
        process(evaluator, {1: instances([BOX], [2]), 2: instances([], [])})
        evaluator.evaluate()
        found = groups_in(tmp_path / "out").values()
        assert sorted(group for group, _ in found) == expected


def test_statistics_of_other_classes_are_not_taken(
    metadata: Any, caplog: pytest.LogCaptureFixture
) -> None:
    other = dataclasses.replace(statistics_of([300, 40, 7]), class_names=("a", "b", "c"))
    read = RegisteredSet.read(metadata, statistics=other)
    assert f"other classes than '{NAME}'" in caplog.text
    assert dict(read.training.images) == {1: 5, 2: 50}


def test_an_evaluator_that_writes_elsewhere_has_the_same_ground_truth(
    metadata: Any, tmp_path: Path
) -> None:
    evaluator = LongTailedLVISEvaluator(NAME, output_dir=str(tmp_path / "one"))
    Path(metadata.json_file).unlink()
    other = evaluator.writing_to(str(tmp_path / "two"))
    for each in (evaluator, other):
        process(each, {1: instances([BOX], [2]), 2: instances([], [])})
    assert str(other.evaluate()) == str(evaluator.evaluate())
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(
        path.name for path in (tmp_path / "two").iterdir()
    )


def test_several_sets_write_to_folders_of_their_own(metadata: Any, tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.DATASETS.TEST = (metadata.name, "another")
    evaluator = build_evaluator(cfg, NAME)
    process(evaluator, {1: instances([], [])})
    evaluator.evaluate()
    assert (tmp_path / "inference" / NAME / "per_class_bbox.csv").is_file()


def test_unknown_type_set_and_task_are_errors(metadata: Any) -> None:
    vars(metadata)["evaluator_type"] = "panoptic"
    with pytest.raises(ValueError, match="got 'panoptic'"):
        build_evaluator(get_cfg(), NAME)
    with pytest.raises(KeyError, match=r"lvis_v1_vall.* is not registered.*like it: lvis_v1_val"):
        build_evaluator(get_cfg(), "lvis_v1_vall")
    with pytest.raises(ValueError, match="name its json_file"):
        LongTailedLVISEvaluator("a set that nobody registered")
    with pytest.raises(ValueError, match=r"got \['keypoints'\]"):
        LongTailedLVISEvaluator(NAME, ("bbox", "keypoints"))


@pytest.mark.parametrize("annotations", ["absent", None, []])
def test_a_set_of_images_and_categories_gives_a_file_of_detections(
    metadata: Any, tmp_path: Path, annotations: Any
) -> None:
    content = json.loads(Path(metadata.json_file).read_text())
    content["annotations"] = annotations
    if annotations == "absent":
        del content["annotations"]
    for image in content["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    Path(metadata.json_file).write_text(json.dumps(content))
    evaluator = LongTailedLVISEvaluator(NAME, output_dir=str(tmp_path / "out"))
    process(evaluator, {1: instances([BOX], [2]), 2: instances([], [])})
    assert evaluator.evaluate() == {}
    (found,) = json.loads((tmp_path / "out" / "lvis_instances_results.json").read_text())
    assert (found["image_id"], found["category_id"], found["bbox"]) == (1, 1, BOX)
