import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lvis_cases import annotation, dataset, rectangle, to_rle

from balms_seg.evaluation import load_ground_truth

BOX = [10.0, 10.0, 20.0, 20.0]


def coco_style(annotations: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    content = dataset(annotations, **options)
    for image in content["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    for category in content["categories"]:
        del category["frequency"]
    return content


def test_coco_style_file_gets_defaults_which_are_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    content = coco_style([annotation(1, 2, BOX)], num_images=2)
    loaded = load_ground_truth(content)
    assert loaded.is_verified.all()
    assert not loaded.is_not_exhaustive.any()
    assert loaded.frequency == ("", "", "")
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    for words in ("every image counts as annotated for all classes", "no group where it is"):
        assert words in caplog.text


def test_lvis_style_file_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    loaded = load_ground_truth(
        dataset([annotation(1, 2, BOX)], negatives={1: [1]}, not_exhaustive={1: [2]})
    )
    np.testing.assert_array_equal(loaded.is_verified, [[True, True, False]])
    np.testing.assert_array_equal(loaded.is_not_exhaustive, [[False, True, False]])
    assert caplog.records == []


def test_own_frequency_wins_over_the_given_one() -> None:
    content = dataset([annotation(1, 2, BOX)], frequency="rcf")
    del content["categories"][1]["frequency"]
    loaded = load_ground_truth(content, class_frequency={1: "f", 2: "f", 3: "r"})
    assert loaded.frequency == ("r", "f", "f")


def test_unknown_frequency_is_rejected() -> None:
    with pytest.raises(ValueError, match="'r', 'c' or 'f'.*'rare'"):
        load_ground_truth(coco_style([]), class_frequency={1: "rare"})


@pytest.mark.parametrize("polygons", [[[1.0, 1.0, 5.0, 5.0]], [[]], [[1.0, 2.0], [3.0, 4.0]]])
def test_flat_polygons_count_for_boxes_and_leave_masks_open(polygons: list) -> None:
    loaded = load_ground_truth(
        dataset([annotation(1, 1, BOX, segmentation=polygons), annotation(1, 2, BOX)])
    )
    assert loaded.for_task("bbox").instance_counts().tolist() == [1, 1, 0]
    of_masks = loaded.for_task("segm")
    assert of_masks.instance_counts().tolist() == [0, 1, 0]
    np.testing.assert_array_equal(of_masks.is_not_exhaustive, [[True, False, False]])


def test_crowds_are_objects_beside_lvis_lists_and_ignored_without_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    annotations = [annotation(1, 1, BOX, iscrowd=1), annotation(1, 2, BOX)]
    loaded = load_ground_truth(dataset(annotations))
    assert loaded.instance_counts().tolist() == [1, 1, 0]
    assert not loaded.is_crowd.any()
    assert "not counted, but evaluated as objects: as in lvis-api" in caplog.text
    loaded = load_ground_truth(coco_style(annotations))
    assert loaded.instance_counts().tolist() == [0, 1, 0]
    assert loaded.is_crowd.tolist() == [True, False]


def test_annotation_without_area_is_dropped_as_lvis_api_does() -> None:
    loaded = load_ground_truth(dataset([annotation(1, 1, BOX, area=0), annotation(1, 2, BOX)]))
    assert loaded.instance_counts().tolist() == [0, 1, 0]
    np.testing.assert_array_equal(loaded.is_verified, [[False, True, False]])


@pytest.mark.parametrize("area", [0, -1.0, float("nan")])
def test_annotation_without_area_is_kept_without_lvis_lists(area: float) -> None:
    loaded = load_ground_truth(coco_style([annotation(1, 1, BOX, area=area)]))
    np.testing.assert_array_equal(loaded.areas, [area])
    assert loaded.is_verified.all()


@pytest.mark.parametrize("segmentation", [rectangle(*BOX), to_rle(rectangle(*BOX))])
def test_missing_box_and_area_follow_from_the_mask(segmentation: Any) -> None:
    incomplete = annotation(1, 1, BOX, segmentation=segmentation)
    del incomplete["bbox"], incomplete["area"]
    loaded = load_ground_truth(dataset([incomplete]))
    np.testing.assert_array_equal(loaded.boxes, [BOX])
    np.testing.assert_array_equal(loaded.areas, [400])


def test_annotation_without_box_and_mask_is_an_error() -> None:
    incomplete = annotation(1, 1, BOX)
    del incomplete["bbox"], incomplete["segmentation"]
    with pytest.raises(ValueError, match="Annotation 1 .* neither a bbox nor a whole mask"):
        load_ground_truth(dataset([incomplete]))


@pytest.mark.parametrize(("image_id", "category_id", "key"), [(9, 1, "image"), (1, 9, "category")])
def test_annotation_of_something_unlisted_is_named(
    image_id: int, category_id: int, key: str
) -> None:
    with pytest.raises(ValueError, match=rf"1 annotation in .* {key}_id .*: 1 \({key}_id 9\)"):
        load_ground_truth(dataset([annotation(image_id, category_id, BOX)]))


@pytest.mark.parametrize("key", ["images", "categories"])
def test_missing_part_is_named(key: str) -> None:
    content = dataset([annotation(1, 1, BOX)])
    del content[key]
    with pytest.raises(ValueError, match=f"no list named {key}"):
        load_ground_truth(content)


def test_truncated_json_and_missing_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "val.json"
    with pytest.raises(FileNotFoundError, match="val.json"):
        load_ground_truth(path)
    path.write_text(json.dumps(dataset([annotation(1, 1, BOX)]))[:-20])
    with pytest.raises(ValueError, match="val.json is not valid json"):
        load_ground_truth(path)
