"""What the one reader takes, and how it says what it does not take."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotation_files import HEIGHT, SQUARE, SQUARE_RUNS, WIDTH, content, with_annotation, write

from balms_seg import ClassStatistics
from balms_seg.annotations import (
    AnnotationError,
    Annotations,
    MaskKind,
    canonical_id,
    is_counted,
    read_annotations,
    require_whole_masks,
    warn_once,
)
from balms_seg.evaluation import load_ground_truth

NAN, INFINITE = float("nan"), float("inf")


def arrays(annotations: Annotations) -> dict[str, Any]:
    masks = annotations.masks
    return {
        "boxes": annotations.boxes.tolist(),
        "areas": annotations.areas.tolist(),
        "images": annotations.images.tolist(),
        "classes": annotations.classes.tolist(),
        "is_crowd": annotations.is_crowd.tolist(),
        "polygons": [[p.tolist() for p in masks.polygons(i)] for i in range(len(annotations))],
        "sizes": annotations.image_table.sizes.tolist(),
    }


def error_of(folder: Path, json_content: Any) -> str:
    path = write(folder, json_content)
    with pytest.raises(AnnotationError) as caught:
        require_whole_masks(read_annotations(path))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def as_text(value: Any) -> Any:
    """The same with every number as text."""
    if isinstance(value, dict):
        return {key: as_text(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [as_text(entry) for entry in value]
    return value if isinstance(value, str) else str(value)


SAME = {
    "numerals as text": as_text(content()),
    "ids as floats": json.loads(
        json.dumps(content()).replace('_id": 1', '_id": 1.0').replace('_id": 7', '_id": 7.0')
    ),
    "another key": with_annotation(attributes={"a": 'b"', "c": [1, {"id": 2}]}, score=None),
    "null box": with_annotation(bbox=None),
    "empty box": with_annotation(bbox=[]),
    "box of nulls": with_annotation(bbox=[None] * 4),
    "box in a list": with_annotation(bbox=[[2, 2, 8, 8]]),
    "null area": with_annotation(area=None),
    "empty area": with_annotation(area=[]),
    "null crowd flag": with_annotation(iscrowd=None),
    "crowd flag false": with_annotation(iscrowd=False),
    "flat polygon": with_annotation(segmentation=SQUARE[0]),
    "ring of points": with_annotation(segmentation=[[2, 2], [10, 2], [10, 10], [2, 10]]),
    "list of rings": with_annotation(segmentation=[[[2, 2], [10, 2], [10, 10], [2, 10]]]),
    "polygon of text": with_annotation(segmentation=[[str(value) for value in SQUARE[0]]]),
}


@pytest.mark.parametrize("kind", SAME)
def test_other_ways_to_write_it_give_the_same(tmp_path: Path, kind: str) -> None:
    expected = arrays(read_annotations(write(tmp_path, content())))
    (tmp_path / "other").mkdir()
    assert arrays(read_annotations(write(tmp_path / "other", SAME[kind]))) == expected


def test_text_ids_are_ids(tmp_path: Path) -> None:
    changed = json.loads(
        json.dumps(content()).replace('_id": 5', '_id": "c5"').replace('"id": 5', '"id": "c5"')
    )
    read = read_annotations(write(tmp_path, changed))
    assert read.contiguous_ids == {7: 0, "c5": 1}
    assert read.classes.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, 7), (7.0, 7), ("7", 7), ("7.0", 7), ("-7", -7), ("007", "007"), ("c7", "c7"), ("", "")]
    + [("1e3", "1e3"), (2**63 - 1, 2**63 - 1), ("٧", "٧"), ("nan", "nan")],
)
def test_canonical_ids(value: object, expected: int | str) -> None:
    assert canonical_id(value) == expected
    assert type(canonical_id(value)) is type(expected)


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [HEIGHT, WIDTH], "counts": SQUARE_RUNS},
        {"size": [str(HEIGHT), float(WIDTH)], "counts": [str(run) for run in SQUARE_RUNS]},
        [{"size": [HEIGHT, WIDTH], "counts": SQUARE_RUNS}],
    ],
)
def test_run_lengths_give_box_area_and_mask(tmp_path: Path, rle: Any) -> None:
    from pycocotools import mask

    read = read_annotations(
        write(tmp_path, with_annotation(bbox=None, area=None, segmentation=rle))
    )
    assert read.boxes[1].tolist() == [2.0, 2.0, 8.0, 8.0]
    assert read.areas[1] == 64.0
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[2:10, 2:10] = 1
    np.testing.assert_array_equal(mask.decode(read.run_lengths(1)), expected)
    compressed = read.run_lengths(1)["counts"].decode()
    again = with_annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": compressed})
    (tmp_path / "again").mkdir()
    read = read_annotations(write(tmp_path / "again", again))
    assert read.masks.kinds[1] == MaskKind.RLE_TEXT
    assert read.run_lengths(1)["counts"] == compressed


REFUSED = {
    "box of two numbers": ({"bbox": [1.0, 2.0]}, "bbox [1.0, 2.0]; expected [x, y, width, height]"),
    "box in a dict": ({"bbox": {"x": 1}}, "expected [x, y, width, height] in pixels"),
    "box with nan": ({"bbox": [NAN, 1, 2, 3]}, "bbox [nan, 1, 2, 3]; expected finite numbers"),
    "box with true": ({"bbox": [True, 1, 2, 3]}, "bbox True; expected a number"),
    "box far away": ({"bbox": [1e9, 1, 2, 3]}, "bbox [1000000000.0, 1.0, 2.0, 3.0] in an image"),
    "box in words": ({"bbox": ["a", 1, 2, 3]}, "bbox 'a'; expected a number"),
    "box of Python's numerals": ({"bbox": ["1_0", 1, 2, 3]}, "bbox '1_0'; expected a number"),
    "area in words": ({"area": "large"}, "area 'large'; expected a number"),
    "crowd flag 2": ({"iscrowd": 2}, "iscrowd 2; expected 0 or 1"),
    "crowd flag in words": ({"iscrowd": "no"}, "iscrowd 'no'; expected 0 or 1"),
    "id true": ({"id": True}, "id True; expected an integer"),
    "id beyond 64 bits": ({"id": 2**63}, "id 9223372036854775808; expected an integer"),
    "image beyond 64 bits": ({"image_id": 2**70}, "expected an integer of at most 64 bits"),
    "image id of a half": ({"image_id": 1.5}, "image_id 1.5; expected an integer"),
    "unknown image": ({"image_id": 9}, "whose image_id is not in its images: 2 (image_id 9)"),
    "unknown class": ({"category_id": "x"}, "not in its categories: 2 (category_id 'x')"),
    "polygon with nan": ({"segmentation": [[NAN, *SQUARE[0][1:]]]}, "coordinates from nan to nan"),
    "polygon at infinity": ({"segmentation": [[INFINITE, *SQUARE[0][1:]]]}, "expected finite pix"),
    "polygon far away": ({"segmentation": [[1e9, *SQUARE[0][1:]]]}, "from 2 to 1e+09; expected"),
    "two RLE": (
        {"segmentation": [{"size": [HEIGHT, WIDTH], "counts": SQUARE_RUNS}] * 2},
        "expected polygons, or one RLE",
    ),
    "mask in words": ({"segmentation": "none"}, "segmentation 'none'; expected polygons or RLE"),
    "polygons in a dict": ({"segmentation": {"0": [1]}}, "expected RLE with size [height, width]"),
    "RLE without runs": (
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": None}},
        "segmentation counts None; expected RLE with counts",
    ),
    "RLE of another size": (
        {"segmentation": {"size": [WIDTH, HEIGHT], "counts": SQUARE_RUNS}},
        "size [20, 16]; expected the image's [height, width] [16, 20]",
    ),
    "runs too short": (
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": SQUARE_RUNS[:-1]}},
        "runs sum to 154; expected runs of 0 or more pixels that sum to height x width 320",
    ),
    "negative run": (
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [-1, 321]}},
        "expected runs of 0 or more pixels",
    ),
    "broken RLE": (
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "nonsense é"}},
        "counts that are cut short or no RLE",
    ),
    "RLE of other pixels": (
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "11"}},
        "runs sum to 2; expected runs that sum to height x width 320",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_clear_names_file_entry_and_field(tmp_path: Path, kind: str) -> None:
    fields, expected = REFUSED[kind]
    message = error_of(tmp_path, with_annotation(**fields))
    assert expected in message
    assert any(
        entry in message
        for entry in ("Annotation 2 ", "Annotation True", ": 2 (", "at place 1", "Annotation 92")
    )


@pytest.mark.parametrize("kind", [k for k in REFUSED if "segmentation" in REFUSED[k][0]])
def test_a_damaged_mask_is_no_error_for_boxes(tmp_path: Path, kind: str, caplog: Any) -> None:
    read = read_annotations(write(tmp_path, with_annotation(**REFUSED[kind][0])))
    assert read.boxes[1].tolist() == [2.0, 2.0, 8.0, 8.0]
    assert read.masks.kinds.tolist() == [MaskKind.POLYGONS, MaskKind.DAMAGED, MaskKind.POLYGONS]
    warn_once(read)
    assert "1 damaged mask: Annotation 2 of image 1 has segmentation" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps(content()).replace('"area": 64.0', '"area": 64.0, "area": 1.0', 1), "'area'"),
        (json.dumps(content()).replace('"id": 2', '"id": 2, "id": 9', 1), "'id'"),
        (json.dumps(content()).replace('"name": "dog"', '"name": "dog", "name": "d"'), "'name'"),
        (json.dumps(content())[:-1] + ', "annotations": []}', "'annotations'"),
        ('{"images": [], ' + json.dumps(content())[1:], "'images'"),
        (
            json.dumps(with_annotation(segmentation={"size": [16, 20], "counts": [320]})).replace(
                '"size"', '"size": [20, 16], "size"'
            ),
            "'size'",
        ),
    ],
)
def test_a_key_that_comes_twice_is_an_error(tmp_path: Path, text: str, expected: str) -> None:
    assert f"has the key {expected} more than once" in error_of(tmp_path, text)


@pytest.mark.parametrize("section", ["images", "categories", "annotations"])
def test_a_dict_where_a_list_belongs(tmp_path: Path, section: str) -> None:
    changed = content()
    changed[section] = {str(entry["id"]): entry for entry in changed[section]}
    assert f"no list named {section}" in error_of(tmp_path, changed)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"file_name": 7}, "Image 1 in .*file_name 7; expected text"),
        ({"height": "tall"}, "Image 1 in .*height 'tall'; expected a number"),
        ({"width": -4}, "Image 1 in .*width -4; expected a whole number of pixels"),
        (
            {"width": 10**9, "height": 64},
            r"Image 1 in .*height x width \[64, 1000000000\]; expected .* at most 134,217,728 ",
        ),
        ({"neg_category_ids": 5}, "neg_category_ids 5; expected a list of category ids"),
    ],
)
def test_image_fields(tmp_path: Path, fields: dict, expected: str) -> None:
    import re

    changed = content()
    changed["images"][0].update(fields)
    assert re.search(expected, error_of(tmp_path, changed))


def test_null_lists_and_sizes_are_absent_ones(tmp_path: Path) -> None:
    changed = content()
    for image in changed["images"]:
        image.update(neg_category_ids=None, not_exhaustive_category_ids=None, width=None, height=[])
    read = read_annotations(write(tmp_path, changed))
    assert not read.is_lvis_style
    assert not read.image_table.sizes.any()


def test_coordinates_come_back_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cents = (rng.integers(-500, 64000, (300, 2)) / 100).reshape(-1).tolist()
    for numbers, dtype in ((cents, np.int32), ([*cents, 1 / 3, 1e-9], np.float64)):
        changed = content()
        for image in changed["images"]:
            image.update(width=640, height=640)
        changed["annotations"][1]["segmentation"] = [numbers, SQUARE[0]]
        folder = tmp_path / np.dtype(dtype).name
        folder.mkdir()
        read = read_annotations(write(folder, changed))
        assert read.masks.coordinates.values.dtype == dtype
        polygons = [polygon.tolist() for polygon in read.masks.polygons(1)]
        assert polygons == [numbers, SQUARE[0]]


def test_one_warning_a_file_says_what_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed = content()
    first, second, third = changed["annotations"]
    first["iscrowd"] = 1
    second["ignore"] = 1
    third["bbox"] = [2, 2, 0, 8]
    changed["annotations"] += [
        {**copy.deepcopy(third), "id": 4, "bbox": [30, 2, 8, 8]},
        {**copy.deepcopy(third), "id": 5, "bbox": [2, 2, 8, 8], "segmentation": [[1, 1, 2, 2]]},
        {**copy.deepcopy(third), "id": 6, "bbox": [2, 2, 8, 8], "segmentation": SQUARE},
    ]
    read = read_annotations(write(tmp_path, changed))
    for _ in range(3):
        warn_once(read)
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    for words in (
        "1 crowd region (",
        "1 ignored region (",
        "1 instance with an empty box",
        "1 instance with a box outside the image",
        "1 instance whose polygons have no extent",
    ):
        assert words in record.getMessage()
    assert is_counted(read, with_masks=True).tolist() == [False] * 5 + [True]
    assert is_counted(read, with_masks=False).tolist() == [False] * 4 + [True] * 2


@pytest.mark.parametrize("polygons", [[[]], [[2.0, 2.0, 10.0, 10.0]]])
def test_a_file_of_boxes_with_flat_polygons_has_no_masks(tmp_path: Path, polygons: list) -> None:
    changed = content()
    for entry in changed["annotations"]:
        entry["segmentation"] = polygons
    assert not read_annotations(write(tmp_path, changed)).has_masks


@pytest.mark.parametrize("ids", [[7, 8, 9], [7, 8, "c"], [7.0, "8", 9], [None, 8, "c"]])
def test_ids_of_all_parts_of_a_file_are_kept(
    tmp_path: Path, ids: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balms_seg.annotations.annotation_columns._AT_ONCE", 1)
    json_content = content()
    for entry, identifier in zip(json_content["annotations"], ids, strict=True):
        entry["id"] = identifier
    kept = read_annotations(write(tmp_path, json_content)).ids.to_list()
    assert kept == [None if value is None else canonical_id(value) for value in ids]
    json_content["annotations"][0]["id"] = ids[1]
    assert "uses 1 annotation id more than once: 8" in error_of(tmp_path, json_content)


def test_several_damaged_masks_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    json_content = content()
    first, *_ = json_content["annotations"]
    json_content["annotations"] = [
        {**first, "id": number, "segmentation": {"size": [1, 2], "counts": [2]}}
        for number in range(1, 8)
    ]
    message = error_of(tmp_path, json_content)
    assert "7 damaged masks: Annotation 1 of image " in message
    assert "; Annotation 3 of image " in message
    assert " and 4 more. " in message


@pytest.mark.parametrize("lists", [{}, {"neg_category_ids": [], "not_exhaustive_category_ids": []}])
def test_what_is_said_of_a_file_is_said_once(tmp_path: Path, lists: dict, caplog: Any) -> None:
    json_content = with_annotation(iscrowd=1)
    json_content["annotations"][2]["area"] = 0
    for image in json_content["images"]:
        image.update(lists)
    path = write(tmp_path, json_content)
    for spelled in (path, tmp_path / ".." / tmp_path.name / path.name):
        warn_once(read_annotations(spelled))
        ClassStatistics.from_json(spelled)
        load_ground_truth(spelled)
    (said,) = [r.getMessage() for r in caplog.records if path.name in r.getMessage()]
    assert str(path) in said
    assert "1 crowd region (iscrowd: not trained on, not counted" in said
    assert ("but evaluated as objects" in said) == bool(lists)
    assert ("1 annotation without an area above 0 (not evaluated" in said) == bool(lists)
