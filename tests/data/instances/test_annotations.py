"""Reading COCO- and LVIS-style annotations."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("detectron2")

from small_sets import LINE, SQUARE, changed, coco_style, lvis_style

from balms_seg.annotations import AnnotationError, read_annotations
from balms_seg.annotations.polygons import has_extent
from balms_seg.data.instances.dataset_dicts import load_annotations


def write(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "annotations.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def load(tmp_path: Path, content: object) -> list[dict]:
    return load_annotations(write(tmp_path, content), "root")


def error_of(tmp_path: Path, content: object) -> str:
    with pytest.raises(AnnotationError) as caught:
        load(tmp_path, content)
    assert str(tmp_path / "annotations.json") in str(caught.value)
    return str(caught.value)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_images_come_by_id_and_classes_are_numbered_by_category_id(tmp_path: Path) -> None:
    records = load(tmp_path, coco_style())
    assert [record["image_id"] for record in records] == [10, 20, 30]
    assert [record["file_name"] for record in records] == ["root/a.png", "root/b.png", "root/c.png"]
    classes = [[a["category_id"] for a in record["annotations"]] for record in records]
    assert classes == [[0, 1], [0], []]
    assert (records[0]["height"], records[0]["width"]) == (16, 20)


def test_lvis_lists_become_contiguous_ids(tmp_path: Path) -> None:
    record = load(tmp_path, lvis_style())[0]
    assert record["neg_category_ids"] == [1]
    assert record["not_exhaustive_category_ids"] == [0]


def test_an_image_without_lvis_lists_gets_none(tmp_path: Path) -> None:
    content = changed(lvis_style(), "images", 0, neg_category_ids=None)
    records = {record["image_id"]: record for record in load(tmp_path, content)}
    assert "neg_category_ids" not in records[30]
    assert records[10]["neg_category_ids"] == [1]


def test_complete_lvis_file_gives_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(tmp_path, lvis_style())
    assert warnings_of(caplog) == []


def test_what_missing_lvis_fields_mean_is_told_once_and_is_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    load(tmp_path, coco_style())
    assert warnings_of(caplog) == []
    (said,) = [text for text in caplog.messages if "LVIS's fields" in text]
    for expected in (
        ".json has none of LVIS's fields: classes are grouped by their number of training images",
        "every image counts as annotated for all classes.",
    ):
        assert expected in said


def test_fields_of_which_a_file_has_some_are_named_one_by_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = coco_style()
    for image in content["images"]:
        image["not_exhaustive_category_ids"] = []
    load(tmp_path, content)
    (warning,) = warnings_of(caplog)
    for expected in (
        "no frequency (classes are grouped by their number of training images",
        "no image_count (counted",
        "no neg_category_ids (every class without an annotation",
    ):
        assert expected in warning


def test_lvis_fields_that_some_images_lack_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(tmp_path, changed(lvis_style(), "images", 0, neg_category_ids=None))
    assert "no neg_category_ids in 1 of 3 images" in warnings_of(caplog)[0]


def test_coco_url_gives_the_last_two_parts(tmp_path: Path) -> None:
    url = "http://images.cocodataset.org/train2017/000000000009.jpg"
    content = changed(coco_style(), "images", 1, file_name=None, coco_url=url)
    assert load(tmp_path, content)[0]["file_name"] == "root/train2017/000000000009.jpg"


def test_lvis_v05_uses_the_2017_folders_and_coco_2014_its_own_names(tmp_path: Path) -> None:
    fields = {
        "file_name": "COCO_val2014_000000000042.jpg",
        "coco_url": "http://images.cocodataset.org/val2017/000000000042.jpg",
    }
    lvis = load(tmp_path, changed(lvis_style(), "images", 1, **fields))
    assert lvis[0]["file_name"] == "root/val2017/000000000042.jpg"
    coco = load(tmp_path, changed(coco_style(), "images", 1, **fields))
    assert coco[0]["file_name"] == "root/COCO_val2014_000000000042.jpg"


def test_degenerate_polygons_leave_an_image_without_annotations(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = changed(lvis_style(), "annotations", 2, segmentation=[LINE, [1.0, 1.0, 5.0, 5.0]])
    records = load(tmp_path, content)
    assert records[1]["image_id"] == 20
    assert records[1]["annotations"] == []
    (warning,) = warnings_of(caplog)
    assert "1 instance whose polygons have no extent" in warning


def test_a_degenerate_polygon_beside_a_good_one_is_dropped_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = changed(lvis_style(), "annotations", 2, segmentation=[LINE, *SQUARE])
    (instance,) = load(tmp_path, content)[1]["annotations"]
    assert instance["segmentation"] == SQUARE
    assert "1 polygon without extent" in warnings_of(caplog)[0]


@pytest.mark.parametrize(
    ("polygon", "expected"),
    [
        ([], False),
        ([0.0, 0.0, 5.0, 5.0], False),
        ([0.0, 0.0, 5.0, 0.0, 5.0, 5.0, 1.0], False),
        ([3.0, 3.0] * 4, False),
        ([0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 900.7, 900.7], False),
        ([0.0, 0.0, float("nan"), 1.0, 2.0, 2.0], False),
        ([0.0, 0.0, 5.0, 0.0, 5.0, 5.0], True),
        ([0.0, 0.0, 1e-9, 0.0, 9.0, 0.0, 9.0, 1.0], True),
        ([0.0, 0.0, 9.0, 9.0, 9.0, 0.0, 0.0, 9.0], True),
    ],
)
def test_extent(polygon: list[float], expected: bool) -> None:
    flat = np.array(polygon)
    assert has_extent(flat, np.array([0, len(flat)])).tolist() == [expected]


def test_instance_with_an_empty_box_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = changed(lvis_style(), "annotations", 2, bbox=[2.0, 2.0, 0.0, 8.0])
    assert load(tmp_path, content)[1]["annotations"] == []
    assert "1 instance with an empty box" in warnings_of(caplog)[0]


def test_missing_box_is_taken_from_the_polygons(tmp_path: Path) -> None:
    content = changed(lvis_style(), "annotations", 2, bbox=None)
    assert load(tmp_path, content)[1]["annotations"][0]["bbox"] == [2.0, 2.0, 8.0, 8.0]


def test_empty_segmentation_is_a_box_without_a_mask(tmp_path: Path) -> None:
    content = changed(lvis_style(), "annotations", 2, segmentation=[])
    (instance,) = load(tmp_path, content)[1]["annotations"]
    assert "segmentation" not in instance


def test_crowd_and_rle_are_kept(tmp_path: Path) -> None:
    from pycocotools import mask

    rle = {"size": [16, 20], "counts": [100, 20, 200]}
    content = changed(lvis_style(), "annotations", 2, segmentation=rle, iscrowd=1)
    (instance,) = load(tmp_path, content)[1]["annotations"]
    assert instance["iscrowd"] == 1
    assert mask.area(instance["segmentation"]) == 20


def test_negative_ids_outside_the_categories_are_dropped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = changed(lvis_style(), "images", 1, neg_category_ids=[7, 99])
    assert load(tmp_path, content)[0]["neg_category_ids"] == [1]
    assert "1 id in neg_category_ids not among the categories" in warnings_of(caplog)[0]


def test_json_without_annotations_has_images_only(tmp_path: Path) -> None:
    content = lvis_style()
    del content["annotations"]
    assert [record["annotations"] for record in load(tmp_path, content)] == [[], [], []]


def test_image_without_a_name(tmp_path: Path) -> None:
    content = changed(lvis_style(), "images", 1, file_name=None)
    assert "Image 10" in error_of(tmp_path, content)


@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["coco_mini_lvis/coco_mini_lvis_train.json", "lvis_v0.5_val_100.json"]
)
def test_equals_detectron2_on_real_lvis_files(
    shared_data: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lvis = pytest.importorskip("detectron2.data.datasets.lvis")
    pytest.importorskip("lvis")
    path = str(shared_data / name)
    expected = lvis.load_lvis_json(path, "root/")
    got = load_annotations(path, "root")
    assert len(got) == len(expected) == 100
    for ours, theirs in zip(got, expected, strict=True):
        # detectron2 leaves the two lists as the json has them
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            assert [index + 1 for index in ours.pop(key)] == theirs.pop(key)
        assert ours == theirs


@pytest.mark.data
def test_real_file_has_its_classes_in_order(shared_data: Path) -> None:
    file = read_annotations(shared_data / "coco_mini_lvis" / "coco_mini_lvis_train.json")
    assert file.is_lvis_style
    assert list(file.contiguous_ids.values()) == list(range(80))
    groups = np.array(file.frequency)
    assert [(groups == letter).sum() for letter in "rcf"] == [79, 1, 0]
