"""Counts, groups and the policy for empty classes."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balms_seg.class_statistics import (
    CLASSIFICATION_GROUPS,
    LVIS_GROUPS,
    ClassStatistics,
    checks,
    flatten_annotations,
)


def image(*class_ids: int, crowds: tuple[int, ...] = ()) -> dict:
    """A dataset dict with one annotation per class id, crowds last."""
    annotations = [{"category_id": c, "iscrowd": 0} for c in class_ids]
    return {"annotations": annotations + [{"category_id": c, "iscrowd": 1} for c in crowds]}


IMAGES = [image(0, 0, 1), image(0), image(), image(2, crowds=(1, 1)), image(crowds=(3,))]


@pytest.fixture(autouse=True)
def _forget_warnings() -> Iterator[None]:
    checks._warn_about_empty_classes.cache_clear()
    yield
    checks._warn_about_empty_classes.cache_clear()


@pytest.fixture
def lvis_json(tmp_path: Path) -> Path:
    """Four categories with gaps in their ids, listed out of order; id 9 has no annotation."""
    content = {
        "images": [{"id": 5}, {"id": 6}, {"id": 7}],
        "categories": [
            {"id": 30, "name": "c", "frequency": "f"},
            {"id": 2, "name": "a", "frequency": "r"},
            {"id": 9, "name": "b", "frequency": "c"},
            {"id": 31, "name": "d"},
        ],
        "annotations": [
            {"image_id": 5, "category_id": 30},
            {"image_id": 5, "category_id": 30},
            {"image_id": 6, "category_id": 2, "iscrowd": 0},
            {"image_id": 6, "category_id": 30},
            {"image_id": 7, "category_id": 31, "iscrowd": 1},
            {"image_id": 6, "category_id": 31},
        ],
    }
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def test_counts_leave_crowds_and_empty_images_out() -> None:
    statistics = ClassStatistics.from_dataset_dicts(IMAGES, 4)
    assert statistics.image_counts.tolist() == [2, 1, 1, 0]
    assert statistics.instance_counts.tolist() == [3, 1, 1, 0]
    assert statistics.num_images == 3
    assert statistics.image_counts.dtype == statistics.instance_counts.dtype == np.int64


def test_flattened_annotations_point_to_their_image() -> None:
    image_index, class_id = flatten_annotations(IMAGES)
    assert image_index.tolist() == [0, 0, 0, 1, 3]
    assert class_id.tolist() == [0, 0, 1, 0, 2]


def test_a_set_without_any_annotation_has_no_frequency() -> None:
    statistics = ClassStatistics.from_dataset_dicts([image(), {}], 2)
    assert statistics.num_images == 0
    with pytest.raises(ValueError, match="no annotation"):
        _ = statistics.frequency


@settings(max_examples=60, deadline=None)
@given(
    data=st.lists(
        st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=6), min_size=1, max_size=12
    )
)
def test_counts_equal_a_count_by_hand(data: list[list[tuple[int, bool]]]) -> None:
    dicts = [
        {"annotations": [{"category_id": c, "iscrowd": int(crowd)} for c, crowd in annotations]}
        for annotations in data
    ]
    factors = np.arange(1, len(dicts) + 1) / 2
    statistics = ClassStatistics.from_dataset_dicts(dicts, 5, repeat_factors=factors)
    kept = [[c for c, crowd in annotations if not crowd] for annotations in data]
    assert statistics.num_images == sum(map(bool, kept))
    for k in range(5):
        assert statistics.image_counts[k] == sum(k in classes for classes in kept)
        assert statistics.instance_counts[k] == sum(classes.count(k) for classes in kept)
        sampled = sum(f * classes.count(k) for f, classes in zip(factors, kept, strict=True))
        assert statistics.sampled_counts[k] == sampled
    if statistics.num_images:
        assert ((statistics.frequency > 0) & (statistics.frequency < 1)).all()


def test_counts_of_a_concatenation_are_sums() -> None:
    parts = [ClassStatistics.from_dataset_dicts(d, 4) for d in (IMAGES[:2], IMAGES[2:])]
    whole = ClassStatistics.from_dataset_dicts(IMAGES, 4)
    for name in ("image_counts", "instance_counts", "num_images"):
        assert np.array_equal(
            getattr(whole, name), getattr(parts[0], name) + getattr(parts[1], name)
        )


@pytest.mark.parametrize("bad", [-1, 4])
def test_class_id_out_of_range_is_an_error(bad: int) -> None:
    with pytest.raises(ValueError, match=rf"class ids in \[0, 3\].*{bad}"):
        ClassStatistics.from_dataset_dicts([image(0, bad)], 4)


def test_json_categories_become_classes_in_the_order_of_their_ids(lvis_json: Path) -> None:
    statistics = ClassStatistics.from_json(lvis_json)
    assert statistics.class_names == ("a", "b", "c", "d")
    assert statistics.image_counts.tolist() == [1, 0, 2, 1]
    assert statistics.instance_counts.tolist() == [1, 0, 3, 1]
    assert statistics.num_images == 2


def test_frequency_field_wins_over_counts_and_counts_fill_its_gaps(lvis_json: Path) -> None:
    groups = ClassStatistics.from_json(lvis_json).groups
    assert {name: ids.tolist() for name, ids in groups.items()} == {
        "rare": [0, 3],
        "common": [1],
        "frequent": [2],
    }


def test_json_image_ids_may_be_text(lvis_json: Path) -> None:
    content = json.loads(lvis_json.read_text())
    for annotation in content["annotations"]:
        annotation["image_id"] = f"photo {annotation['image_id']}"
    for entry in content["images"]:
        entry["id"] = f"photo {entry['id']}"
    statistics = ClassStatistics.from_json(content)
    assert statistics.image_counts.tolist() == [1, 0, 2, 1]


def test_missing_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.json"):
        ClassStatistics.from_json(tmp_path / "nowhere.json")


def test_truncated_json_is_named_with_the_byte(lvis_json: Path) -> None:
    text = lvis_json.read_text().replace('"a"', '"é"')
    raw = text[: text.index('"image_id": 6')].encode()
    lvis_json.write_bytes(raw)
    with pytest.raises(ValueError, match=rf"annotations\.json.*at byte {len(raw)} of {len(raw)}"):
        ClassStatistics.from_json(lvis_json)


@pytest.mark.parametrize("key", ["categories", "annotations"])
def test_json_without_a_needed_list_is_an_error(lvis_json: Path, key: str) -> None:
    content = json.loads(lvis_json.read_text())
    del content[key]
    lvis_json.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"no list named {key}"):
        ClassStatistics.from_json(lvis_json)


def test_contradicting_json_is_an_error(lvis_json: Path) -> None:
    content = json.loads(lvis_json.read_text())
    extra = {"image_id": 5, "category_id": 77}
    with pytest.raises(ValueError, match=r"1 annotation .*category_id 77"):
        ClassStatistics.from_json({**content, "annotations": [extra]})
    twice = content["categories"] + [{"id": 2, "name": "again"}]
    with pytest.raises(ValueError, match=r"1 category id more than once: 2"):
        ClassStatistics.from_json({**content, "categories": twice})
    with pytest.raises(ValueError, match="list of categories in .* is empty"):
        ClassStatistics.from_json({**content, "categories": []})


def test_lvis_groups_start_at_11_and_101_images() -> None:
    counts = [0, 1, 10, 11, 100, 101]
    dicts = [image(k) for k, n in enumerate(counts) for _ in range(n)]
    statistics = ClassStatistics.from_dataset_dicts(dicts, 6)
    assert statistics.group_names == LVIS_GROUPS
    assert statistics.group_ids.tolist() == [0, 0, 0, 1, 1, 2]


def test_classification_groups_start_at_20_and_101_images() -> None:
    labels = np.repeat(np.arange(5), [0, 19, 20, 100, 101])
    statistics = ClassStatistics.from_labels(labels, 5)
    assert statistics.group_names == CLASSIFICATION_GROUPS
    assert statistics.group_ids.tolist() == [0, 0, 1, 1, 2]
    assert statistics.num_images == len(labels)
    from_dicts = ClassStatistics.from_dataset_dicts([{"label": int(y)} for y in labels], 5)
    assert from_dicts.to_dict() == statistics.to_dict()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[1, 0], [0, 1]], r"shape \(N,\), one class id an image, but got \(2, 2\); pass .*argmax"),
        ([0.0, 1.5], r"whole numbers from 0, but got float64, for example \[0.0, 1.5\]"),
        (["cat", "dog"], "whole numbers from 0, but got <U3, for example .'cat', 'dog'"),
    ],
)
def test_labels_that_are_no_class_ids_are_errors(labels: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassStatistics.from_labels(labels, 2)


def test_wrong_frequency_letters_are_errors() -> None:
    with pytest.raises(ValueError, match=r"got \['x'\]"):
        ClassStatistics.from_dataset_dicts(IMAGES, 4, frequency=["r", "x", "c", "f"])
    with pytest.raises(ValueError, match="Expected 4 frequency letters, but got 1"):
        ClassStatistics.from_dataset_dicts(IMAGES, 4, frequency=["r"])


def test_frequency_is_clamped_away_from_zero_and_one() -> None:
    statistics = ClassStatistics.from_dataset_dicts([image(0, 1), image(0), image(0), image(0)], 3)
    assert statistics.frequency.tolist() == [1 - 0.5 / 4, 1 / 4, 0.5 / 4]


def test_floor_counts_an_empty_class_once_and_warns_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = ["ant", "bee", "cat", "dodo"]
    factors = np.full(5, 0.25)
    with caplog.at_level(logging.WARNING, logger="balms_seg"):
        statistics = ClassStatistics.from_dataset_dicts(
            IMAGES, 4, class_names=names, repeat_factors=factors
        )
        assert not caplog.records
        assert statistics.prior_counts("image").tolist() == [2, 1, 1, 1]
        assert statistics.prior_counts("instance").tolist() == [3, 1, 1, 1]
        # only the empty class is floored: a small weight is not a missing sample
        assert statistics.prior_counts("sampled").tolist() == [0.75, 0.25, 0.25, 1]
        _ = statistics.frequency
    assert len(caplog.records) == 1
    assert "1 of 4 classes" in caplog.text
    assert "dodo" in caplog.text


def test_error_policy_names_the_empty_class() -> None:
    statistics = ClassStatistics.from_dataset_dicts(
        IMAGES, 4, class_names=["ant", "bee", "cat", "dodo"], empty_classes="error"
    )
    with pytest.raises(ValueError, match="1 of 4 classes .*: dodo"):
        statistics.prior_counts("image")
    with pytest.raises(ValueError, match="dodo"):
        _ = statistics.frequency


def test_unknown_prior_and_policy_are_errors() -> None:
    statistics = ClassStatistics.from_dataset_dicts(IMAGES, 4)
    with pytest.raises(ValueError, match="prior among"):
        statistics.prior_counts("images")
    with pytest.raises(ValueError, match="needs the images' repeat factors"):
        statistics.prior_counts("sampled")
    with pytest.raises(ValueError, match="empty_classes to be one of"):
        ClassStatistics.from_dataset_dicts(IMAGES, 4, empty_classes="ignore")


@pytest.mark.parametrize("factors", [np.ones(4), np.array([1, 1, 1, 1, 0.0]), np.full(5, np.nan)])
def test_wrong_repeat_factors_are_errors(factors: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(5,\) positive repeat factors"):
        ClassStatistics.from_dataset_dicts(IMAGES, 4, repeat_factors=factors)


def test_metadata_rows_are_ordered_by_id(caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"id": 2, "image_count": 50}, {"id": 1, "image_count": 3}]
    metadata = SimpleNamespace(class_image_count=rows, num_images=200, thing_classes=["a", "b"])
    statistics = ClassStatistics.from_metadata(metadata)
    assert statistics.image_counts.tolist() == [3, 50]
    assert statistics.frequency.tolist() == [3 / 200, 0.25]
    assert "no instance counts" in caplog.text
    for row in rows:
        row["instance_count"] = 4 * row["image_count"]
    assert ClassStatistics.from_metadata(metadata).instance_counts.tolist() == [12, 200]


@pytest.mark.parametrize(("classes", "images"), [(1230, 56_740), (1203, 99_388)])
def test_metadata_of_lvis_are_of_its_images_with_annotations(classes: int, images: int) -> None:
    """Of v0.5 and v1, as counted from their training annotations."""
    rows = [{"id": i + 1, "image_count": 5, "instance_count": 9} for i in range(classes)]
    statistics = ClassStatistics.from_metadata(SimpleNamespace(class_image_count=rows))
    assert (statistics.num_classes, statistics.num_images) == (classes, images)


def test_metadata_without_what_is_needed_are_errors() -> None:
    with pytest.raises(ValueError, match="no class_image_count"):
        ClassStatistics.from_metadata(SimpleNamespace())
    rows = [{"id": 1, "image_count": 3}]
    with pytest.raises(ValueError, match=r"metadata\.num_images"):
        ClassStatistics.from_metadata(SimpleNamespace(class_image_count=rows))


def test_the_dict_is_what_json_keeps() -> None:
    statistics = ClassStatistics.from_dataset_dicts(IMAGES, 4, repeat_factors=np.ones(5) / 3)
    content = statistics.to_dict()
    assert json.loads(json.dumps(content)) == content
    assert content["image_counts"] == statistics.image_counts.tolist()
    assert tuple(content["group_names"]) == statistics.group_names


def test_arrays_are_read_only() -> None:
    statistics = ClassStatistics.from_dataset_dicts(IMAGES, 4)
    with pytest.raises(ValueError, match="read-only"):
        statistics.image_counts[0] = 7


@pytest.mark.data
def test_real_lvis_groups_are_those_of_the_json(shared_data: Path) -> None:
    statistics = ClassStatistics.from_json(shared_data / "lvis_v0.5_val_100.json")
    assert [len(ids) for ids in statistics.groups.values()] == [454, 461, 315]


@pytest.mark.data
def test_real_photographs_have_eleven_empty_classes(shared_data: Path) -> None:
    path = shared_data / "coco_mini_lvis" / "coco_mini_lvis_train.json"
    statistics = ClassStatistics.from_json(path)
    assert (statistics.image_counts == 0).sum() == 11
    assert [len(ids) for ids in statistics.groups.values()] == [79, 1, 0]
