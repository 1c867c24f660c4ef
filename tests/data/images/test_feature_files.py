"""Files of features: what is read, under which names and labels, and what is refused."""

from __future__ import annotations

from ast import literal_eval
from pathlib import Path

import numpy as np
import pytest
import torch
from image_sets import CLASSES, write_folders

from balms_seg.commands.command_line import run_command
from balms_seg.data.images.feature_files import holds_features, load_features
from balms_seg.data.images.image_files import read_image
from balms_seg.data.images.image_lists import read_image_records
from balms_seg.data.images.image_records import ImageRecords
from balms_seg.data.images.subset_files import build_subset, format_list

FEATURES = np.arange(10, dtype=np.float32).reshape(5, 2)


def write_npz(folder: Path, name: str = "features.npz", **arrays: object) -> str:
    given = {"features": FEATURES, "labels": [1, 0, 1, 2, 0], **arrays}
    kept = {key: np.asarray(value) for key, value in given.items() if value is not None}
    np.savez(folder / name, **kept)
    return str(folder / name)


def labels_of(found: ImageRecords) -> list[int]:
    return [record["label"] for record in found.records]


def test_rows_come_with_their_labels_and_numbers_say_no_names(tmp_path: Path) -> None:
    found = read_image_records(write_npz(tmp_path), "")
    assert labels_of(found) == [1, 0, 1, 2, 0]
    assert (found.class_names, found.names_are_known) == (("0", "1", "2"), False)
    assert holds_features(found.records)
    loaded = load_features(found.records[::-1])
    assert loaded.dtype == torch.float32
    assert np.array_equal(loaded.numpy(), FEATURES[::-1])


def test_labels_may_be_names_in_an_order_of_their_own(tmp_path: Path) -> None:
    names = ["cat", "ape", "cat", "bee", "ape"]
    found = read_image_records(write_npz(tmp_path, labels=names), "")
    assert (labels_of(found), found.class_names) == ([2, 0, 2, 1, 0], CLASSES)
    path = write_npz(tmp_path, "ordered.npz", labels=names, class_names=["cat", "bee", "ape"])
    found = read_image_records(path, "")
    assert (labels_of(found), found.class_names) == ([0, 2, 0, 1, 2], ("cat", "bee", "ape"))
    assert found.names_are_known


def test_a_list_names_the_rows_of_an_array_in_order(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", FEATURES.astype(np.float16))
    (tmp_path / "labels.txt").write_text("".join(f"{i}.jpg\t{'ab'[i % 2]}\n" for i in range(5)))
    found = read_image_records(str(tmp_path / "clip.npy"), str(tmp_path / "labels.txt"))
    assert found.class_names == ("a", "b")
    assert [record["key"] for record in found.records] == [f"{i}.jpg" for i in range(5)]
    assert np.array_equal(load_features(found.records[2:]).numpy(), FEATURES[2:])


def test_lists_of_subsets_find_their_rows_by_key(tmp_path: Path) -> None:
    keys = [f"train/{name}/1.png" for name in ("u", "v", "w", "x", "y")]
    path = write_npz(tmp_path, labels=[0, 0, 0, 1, 1], keys=keys, class_names=["a", "b"])
    whole = read_image_records(path, "")
    subset = build_subset(whole, rho=3)
    (tmp_path / "subset.txt").write_text(format_list(subset))
    found = read_image_records(str(tmp_path / "subset.txt"), path)
    assert labels_of(found) == [0, 0, 0, 1]
    assert found.class_names == ("a", "b")
    rows = [keys.index(record["key"]) for record in found.records]
    assert np.array_equal(load_features(found.records).numpy(), FEATURES[rows])


def test_a_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    records = read_image_records(write_npz(tmp_path), "").records
    load_features(records)
    write_npz(tmp_path, features=FEATURES + 1)
    assert np.array_equal(load_features(records).numpy(), FEATURES + 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": FEATURES[0]}, r"features \(N, D\) as floats in .*got float32 \(2,\)"),
        ({"features": None}, r"got \['labels'\]"),
        ({"features": FEATURES.astype(int)}, "as floats"),
        ({"labels": None}, "Expected 5 labels .*but got none"),
        ({"labels": [0, 1]}, r"Expected 5 labels .*but got int64 \(2,\)"),
        ({"labels": [0, 1, -1, 0, 0]}, "from 0 to 1 .*got -1 to 1"),
        ({"class_names": ["a", "b"]}, "from 0 to 1 .*got 0 to 2"),
        ({"labels": list("abcab"), "class_names": ["a", "b"]}, "lacks the label 'c'"),
        ({"keys": list("vwxyy")}, "Expected 5 different keys .*got 5 of which 4 differ"),
        ({"labels": np.array([{}] * 5)}, "cannot be read"),
    ],
)
def test_what_is_no_set_of_features_is_refused(arrays: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_image_records(write_npz(tmp_path, **arrays), "")


def test_features_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    values = FEATURES.copy()
    values[3, 1] = np.nan
    records = read_image_records(write_npz(tmp_path, features=values), "").records
    with pytest.raises(ValueError, match="1 of 5 images has features .*not finite, such as 3"):
        load_features(records)
    wide = read_image_records(write_npz(tmp_path, "wide.npz", features=np.ones((5, 3))), "").records
    with pytest.raises(ValueError, match=r"as many features in every file.*2.*3"):
        load_features(records[:2] + wide)
    absent = [{**records[0], "file_name": f"{tmp_path}/features.npz/elsewhere.jpg"}]
    with pytest.raises(ValueError, match=r"lacks 1 of 1 image of the set, such as elsewhere\.jpg"):
        load_features(absent)
    with pytest.raises(OSError, match="leads to features"):
        read_image(records[0]["file_name"])
    write_folders(tmp_path / "set", (1, 1, 1))
    images = read_image_records(str(tmp_path / "set"), "").records
    assert not holds_features(images)
    with pytest.raises(ValueError, match="some of features"):
        holds_features([*records, *images])


def test_held_out_parts_name_the_file_that_they_are_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_npz(tmp_path, labels=[0, 0, 0, 1, 1], class_names=["a", "b"])
    run_command("split", [path, "--held-out", "0.3", "--output", str(tmp_path / "lists")])
    printed = capsys.readouterr().out.splitlines()[-1]
    value = printed.removeprefix("DATASETS.REGISTER_IMAGES ")
    for _, source, root in literal_eval(literal_eval(value)):
        found = read_image_records(source, root)
        assert set(labels_of(found)) == {0, 1}
        assert load_features(found.records).shape == (len(found.records), 2)


def test_an_array_needs_a_line_a_row(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", FEATURES)
    with pytest.raises(FileNotFoundError, match="name a list file"):
        read_image_records(str(tmp_path / "clip.npy"), "")
    (tmp_path / "labels.txt").write_text("a.jpg 0\nb.jpg 1\n")
    with pytest.raises(ValueError, match="for each of the 5 rows .*names 2 images"):
        read_image_records(str(tmp_path / "clip.npy"), str(tmp_path / "labels.txt"))
