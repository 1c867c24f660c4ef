"""Collages of photographs: exact counts, exact masks, no photograph twice."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from image_sets import CLASSES, write_zip
from pycocotools.coco import COCO

from balms_seg.data.images.image_lists import read_image_records
from balms_seg.data.images.image_records import ImageRecords
from balms_seg.glyphs import collages
from balms_seg.glyphs.collages import CollageConfig, draw_collage, make_collages
from balms_seg.glyphs.glyph_rendering import cluttered_background

SMALL = CollageConfig(train_images=20, val_images=9, max_count=16, rho=8, size=48)


def read_photographs(archive: Path) -> dict[str, ImageRecords]:
    parts = {"train": "train", "val": "test"}
    return {split: read_image_records(str(archive), part) for split, part in parts.items()}


@pytest.fixture
def photographs(tmp_path: Path) -> dict[str, ImageRecords]:
    write_zip(tmp_path / "photographs.zip", {"train": (50, 50, 50), "test": (20, 20, 20)})
    return read_photographs(tmp_path / "photographs.zip")


def image_counts(coco: COCO) -> list[int]:
    """Images of each class, from the most to the least frequent."""
    return sorted((len(coco.getImgIds(catIds=[k])) for k in coco.getCatIds()), reverse=True)


def test_masks_are_what_is_seen_of_each_photograph() -> None:
    colors = [(10, 20, 30), (200, 100, 50), (0, 255, 0), (255, 0, 255), (90, 90, 90)]
    plain = [np.full((8, 8, 3), color, np.uint8) for color in colors]
    areas = []
    for seed in range(20):
        image, masks = draw_collage(plain, 64, np.random.default_rng(seed))
        background = cluttered_background(64, np.random.default_rng(seed))
        assert masks.sum(0).max() == 1
        for mask, color in zip(masks, colors, strict=True):
            assert (image[mask] == color).all()
        behind = ~masks.any(0)
        assert np.array_equal(image[behind], background[behind])
        areas.append(masks.sum((1, 2)))
    # What lies on top is seen whole, what lies below it often not.
    means = np.mean(areas, axis=0)
    assert means[0] < 0.9 * means[-1]
    assert np.min(areas) > 30


def test_the_tail_is_exact_and_the_validation_split_balanced(
    photographs: dict[str, ImageRecords], tmp_path: Path
) -> None:
    assert make_collages(tmp_path / "made", photographs, SMALL)
    train, val = (COCO(str(tmp_path / "made" / f"{split}.json")) for split in ("train", "val"))
    assert (len(train.imgs), len(val.imgs)) == (20, 9)
    assert image_counts(train) == [16, 6, 2]
    assert image_counts(val) == [6, 6, 6]
    counts = Counter(annotation["category_id"] for annotation in train.anns.values())
    for category in train.dataset["categories"]:
        assert category["name"] == CLASSES[category["id"] - 1]
        assert category["image_count"] == len(train.getImgIds(catIds=[category["id"]]))
        assert category["instance_count"] == counts[category["id"]]
    for annotation in train.anns.values():
        mask = train.annToMask(annotation)
        rows, columns = np.nonzero(mask)
        left, top = columns.min(), rows.min()
        box = [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
        assert annotation["bbox"] == box
        assert annotation["area"] == mask.sum()


def test_a_photograph_is_used_once_and_those_of_the_test_set_for_validation_alone(
    photographs: dict[str, ImageRecords], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, used = collages.read_image, []
    monkeypatch.setattr(collages, "read_image", lambda name: used.append(name) or read(name))
    make_collages(tmp_path / "made", photographs, SMALL)
    assert len(set(used)) == len(used)
    for split, part in (("train", "/train/"), ("val", "/test/")):
        content = json.loads((tmp_path / "made" / f"{split}.json").read_text())
        assert sum(part in name for name in used) == len(content["annotations"])


def test_collages_are_the_same_every_time_and_kept_where_they_are(
    photographs: dict[str, ImageRecords], tmp_path: Path
) -> None:
    def content(folder: Path) -> dict[str, bytes]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    make_collages(tmp_path / "one", photographs, SMALL)
    make_collages(tmp_path / "other", photographs, SMALL)
    before = content(tmp_path / "one")
    assert before == content(tmp_path / "other")
    assert not make_collages(tmp_path / "one", photographs, SMALL)
    reseeded = dataclasses.replace(SMALL, seed=1)
    with pytest.raises(FileExistsError, match="holds other collages"):
        make_collages(tmp_path / "one", photographs, reseeded)
    assert content(tmp_path / "one") == before
    make_collages(tmp_path / "reseeded", photographs, reseeded)
    assert content(tmp_path / "reseeded")["train/000000.png"] != before["train/000000.png"]


def test_too_few_photographs_are_told_with_their_class(
    photographs: dict[str, ImageRecords], tmp_path: Path
) -> None:
    few = {**photographs, "train": photographs["val"]}
    with pytest.raises(ValueError, match=r"photographs of (ape|bee|cat), but got 20"):
        make_collages(tmp_path / "made", few, SMALL)


@pytest.mark.data
def test_ten_classes_of_real_photographs_at_rho_100(shared_data: Path, tmp_path: Path) -> None:
    make_collages(tmp_path / "made", read_photographs(shared_data / "cifar10-jpeg.zip"))
    train, val = (COCO(str(tmp_path / "made" / f"{split}.json")) for split in ("train", "val"))
    assert (len(train.imgs), len(val.imgs)) == (800, 200)
    assert image_counts(train) == [600, 360, 216, 129, 77, 46, 28, 17, 10, 6]
    assert image_counts(val) == [40] * 10
    assert len(train.anns) > 3 * 800
