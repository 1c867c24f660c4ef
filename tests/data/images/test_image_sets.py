"""Image classification sets from folders, archives and lists, and long-tailed subsets of CIFAR."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from image_sets import CLASSES, picture, write_folders, write_zip

from balms_seg.data import register_images
from balms_seg.data.images.image_files import missing_addresses, read_image
from balms_seg.data.images.image_lists import read_image_records
from balms_seg.data.images.image_sets import read_cifar_subset

COUNTS = (3, 2, 1)


def test_an_archive_reads_as_the_folders_in_it(tmp_path: Path) -> None:
    write_folders(tmp_path / "folders" / "train", COUNTS)
    write_zip(tmp_path / "images.zip", {"train": COUNTS, "test": (1, 1, 1)})
    folders = read_image_records(str(tmp_path / "folders"), "train")
    archive = read_image_records(str(tmp_path / "images.zip"), "train")
    assert folders.class_names == archive.class_names == CLASSES
    for one, other in zip(folders.records, archive.records, strict=True):
        assert (one["key"], one["label"]) == (other["key"], other["label"])
        assert np.array_equal(read_image(one["file_name"]), read_image(other["file_name"]))
    assert [record["label"] for record in archive.records] == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize("in_archive", [False, True])
def test_a_list_names_images_below_a_folder_or_archive(tmp_path: Path, in_archive: bool) -> None:
    write_folders(tmp_path / "train", COUNTS)
    root = str(tmp_path)
    if in_archive:
        write_zip(tmp_path / "images.zip", {"train": COUNTS})
        root = str(tmp_path / "images.zip")
    (tmp_path / "list.txt").write_text("train/ape/001.png 0\n\n# a comment\ntrain/cat/000.png 2\n")
    records, names, names_are_known, _ = read_image_records(str(tmp_path / "list.txt"), root)
    assert [record["label"] for record in records] == [0, 2]
    assert names == ("0", "1", "2")
    assert not names_are_known
    assert missing_addresses(record["file_name"] for record in records) == []
    assert np.array_equal(read_image(records[1]["file_name"]), np.asarray(picture(2, 0)))


def test_a_missing_image_is_named_wherever_it_should_lie(tmp_path: Path) -> None:
    write_zip(tmp_path / "images.zip", {"train": COUNTS})
    write_folders(tmp_path / "train", COUNTS)
    absent = [f"{tmp_path}/images.zip/train/ape/9.png", f"{tmp_path}/train/ape/9.png"]
    there = [f"{tmp_path}/images.zip/train/ape/000.png", f"{tmp_path}/train/ape/000.png"]
    assert missing_addresses([*there, *absent]) == absent
    for address in absent:
        with pytest.raises(FileNotFoundError):
            read_image(address)


@pytest.mark.parametrize(
    ("write", "root", "message"),
    [
        (lambda path: None, "", "there is nothing"),
        (lambda path: path.mkdir(), "", "class folders"),
        (lambda path: path.mkdir(), "train", "Expected a folder train in .*; it is empty"),
        (lambda path: (path / "test" / "a").mkdir(parents=True), "train", "; it holds test."),
        (lambda path: (path / "b").mkdir(parents=True), "", "Its folders b are empty"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "", "class folders"),
        (lambda path: path.write_bytes(b"no zip"), "train", "not a zip archive"),
    ],
    ids=[
        "absent",
        "empty folder",
        "no root",
        "another root",
        "empty classes",
        "empty zip",
        "no zip",
    ],
)
def test_what_holds_no_set_says_so(write: object, root: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "source.zip"
    write(path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_image_records(str(path), root)


def test_images_outside_of_class_folders_are_no_set(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as archive:
        archive.writestr("train/1.png", b"")
    with pytest.raises(
        ValueError, match=r"flat.zip/train, but its 1 image \(1.png\) lies in no folder"
    ):
        read_image_records(str(tmp_path / "flat.zip"), "train")


@pytest.mark.parametrize(
    ("text", "message"),
    [("a.png\n", "line 1: 'a.png'"), ("a.png cat\n", "'path label'"), ("# none\n", "no image")],
)
def test_a_list_that_cannot_be_read_says_where(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_image_records(str(tmp_path / "list.txt"), "")


def write_cifar(root: Path, per_class: int = 60) -> None:
    """CIFAR-10 as torchvision unpacks it, with few images of noise and no checksums that hold."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        labels = [i % 10 for i in range(2 * per_class)]
        data = rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": labels}))
    names = [f"class {i}" for i in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))


def test_cifar_reads_from_torchvisions_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10

    write_cifar(tmp_path)
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    records = DatasetCatalog.get("cifar10_train")
    theirs = CIFAR10(str(tmp_path), train=True)
    assert [record["label"] for record in records] == theirs.targets
    assert np.array_equal(read_image(records[77]["file_name"]), theirs.data[77])
    assert MetadataCatalog.get("cifar10_train").thing_classes == theirs.classes
    monkeypatch.setattr(
        "balms_seg.data.images.image_sets._CIFAR", {10: (("cifar-10-batches-py",), 60)}
    )
    subset, again = (read_cifar_subset(10, 6, "exponential").records for _ in range(2))
    counts = np.bincount([record["label"] for record in subset])
    assert (counts[0], counts[-1]) == (60, 10)
    assert subset == again


def test_a_name_is_registered_once(tmp_path: Path) -> None:
    write_zip(tmp_path / "images.zip", {"train": COUNTS})
    name = f"{tmp_path.name}_once"
    for _ in range(2):
        register_images(name, str(tmp_path / "images.zip"), "train")
    with pytest.raises(ValueError, match="is taken"):
        register_images(name, str(tmp_path / "images.zip"), "test")
    with pytest.raises(ValueError, match="is taken"):
        register_images("cifar10_test", str(tmp_path / "images.zip"), "test")


def test_absent_cifar_says_what_is_expected_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="cifar10-jpeg.zip .*prepare_cifar"):
        DatasetCatalog.get("cifar10_lt_rho100_train")
    with pytest.raises(FileNotFoundError, match="ImageNet_LT_train.txt"):
        DatasetCatalog.get("imagenet_lt_train")


@pytest.mark.data
def test_the_archives_long_tailed_subset_has_the_papers_sizes(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shared_data))
    records = DatasetCatalog.get("cifar10_lt_rho100_train")
    counts = np.bincount([record["label"] for record in records])
    assert counts.tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert read_image(records[0]["file_name"]).shape == (32, 32, 3)
    assert len(DatasetCatalog.get("cifar10_test")) == 10_000
